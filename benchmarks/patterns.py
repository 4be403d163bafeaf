"""How the time of every regular expression grows on the text that it takes longest over: `make bench-patterns`.

Ten times the text should take ten times as long; a square takes a hundred times.
"""

from tests.helpers.attacks import attacks, patterns, seconds

SHORT, LONG, ROUNDS = 10_000, 100_000, 5
SHOWN = 15


def main() -> None:
    """Print the patterns that take longest, with their worst text; times are the best of ROUNDS."""
    found = []
    for name, (pattern, _) in patterns().items():
        if tried := attacks(pattern):
            worst = max(tried, key=lambda attack: seconds(name, attack, SHORT))
            short, long = (min(seconds(name, worst, size) for _ in range(ROUNDS)) for size in (SHORT, LONG))
            found.append((long, long / max(short, 1e-5), name, worst))
    print(f"{len(found)} patterns: milliseconds for {LONG:,} characters, and how many times that of {SHORT:,}")
    for long, ratio, name, attack in sorted(found, reverse=True)[:SHOWN]:
        print(f"{1000 * long:9.2f} ms {ratio:6.1f} x  {name}  {attack!r:.60}")
    print(f"largest ratio of those above 1 ms: {max(ratio for long, ratio, *_ in found if long > 0.001):.1f} x")


if __name__ == "__main__":
    main()
