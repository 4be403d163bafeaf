"""Lines that left documents which stay: how many for each reason, and the first few of them."""

from collections import Counter
from collections.abc import Iterable, Mapping

SAMPLES = 5
MAX_CHARACTERS = 200


class DroppedLines:
    """Counts of dropped lines by reason, and the first SAMPLES different ones, cut at MAX_CHARACTERS."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.samples: dict[str, list[str]] = {}

    def add(self, reason: str, line: str) -> None:
        """Count one line."""
        self.counts[reason] += 1
        self._keep(reason, [line[:MAX_CHARACTERS]])

    def update(self, counts: Mapping[str, int], samples: Mapping[str, Iterable[str]]) -> None:
        """Count what another has counted."""
        self.counts.update(counts)
        for reason, lines in samples.items():
            self._keep(reason, lines)

    def _keep(self, reason: str, lines: Iterable[str]) -> None:
        kept = self.samples.setdefault(reason, [])
        for line in lines:
            if len(kept) < SAMPLES and line not in kept:
                kept.append(line)

    def table(self) -> dict[str, dict[str, object]]:
        """For each reason the count and the samples."""
        return {r: {"lines": n, "samples": self.samples.get(r, [])} for r, n in sorted(self.counts.items())}
