"""Progress of long work: a bar in a terminal, a line every few seconds in a log."""

import logging
import sys
import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts towards `total` `unit`s of `what`. Use as a context manager.

    In a terminal it is a tqdm bar; elsewhere a log line at most every five seconds, and one at the end.
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "items") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self._log = logging.getLogger("progress")
        self._started = self._last = time.monotonic()
        self._shown: dict[str, Any] = {}
        self._bar = tqdm(total=total, desc=what, unit=f" {unit}", leave=False) if sys.stderr.isatty() else None

    def advance(self, n: int = 1, **shown: Any) -> None:
        """Count `n` more; `shown` are current values worth seeing, e.g. `loss="3.21"`."""
        self.done += n
        self._shown = shown or self._shown
        if self._bar is not None:
            self._bar.set_postfix(self._shown, refresh=False)
            self._bar.update(n)
        elif time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._line()

    def _line(self) -> None:
        self._last = time.monotonic()
        of_total = f"/{self.total:,} ({self.done / self.total:.0%})" if self.total else ""
        shown = "".join(f", {key} {value}" for key, value in self._shown.items())
        rate = self.done / max(self._last - self._started, 1e-9)
        speed = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        self._log.info("%s: %s%s %s, %s/s%s", self.what, f"{self.done:,}", of_total, self.unit, speed, shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        if kind is None:
            self._line()
