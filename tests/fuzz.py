"""`make fuzz`: feed tests/helpers/fuzzed.py what atheris makes of the seeds, each target for a share of SECONDS; one process each.

An input that fails is kept under tests/seeds, where the tests try it from then on. atheris (coverage-guided fuzzing by
libFuzzer) is no dependency of the project: `make fuzz` installs it beside.
"""

import os
import subprocess
import sys
from pathlib import Path

SECONDS = int(os.environ.get("SECONDS_IN_ALL", "600"))
MEMORY_MB, LONGEST, SLOWEST_S = 4096, 20_000, 20
"""Of one input: megabytes of the process, bytes, and seconds, from which on it is a failure."""


def run(name: str) -> None:
    """Fuzz one target in this process; libFuzzer ends it."""
    import atheris  # type: ignore[import-not-found, unused-ignore]

    with atheris.instrument_imports(include=["tasks"]):
        from tests.helpers.fuzzed import SEEDS, TARGETS
    found = Path(".textmill/fuzz") / name
    found.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": SECONDS // len(TARGETS),
        "max_len": LONGEST,
        "timeout": SLOWEST_S,
        "rss_limit_mb": MEMORY_MB,
        "artifact_prefix": f"{SEEDS / name}/",
        "verbosity": 0,
        "print_final_stats": 1,
    }
    flags = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup([name, *flags, str(found), str(SEEDS / name)], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    """Each target in turn; returns how many failed."""
    from tests.helpers.fuzzed import TARGETS

    failed = []
    for name in TARGETS:
        print(f"{name}: {SECONDS // len(TARGETS)} s", flush=True)
        if subprocess.run([sys.executable, "-m", "tests.fuzz", name], check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}; the inputs lie under tests/seeds" if failed else "nothing found")
    return len(failed)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]) if len(sys.argv) > 1 else main())
