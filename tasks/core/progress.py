"""Progress of long work: a bar in a terminal, a line every few seconds in a log, events for the flow that draws both."""

import json
import logging
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_EVENTS = 0.5
EVENTS_VARIABLE = "TEXTMILL_PROGRESS_NEWS"
"""Set by the flow, which reads what a stage prints: progress is then told as `ProgressState.event_line`, for the flow to show."""
EVENT_PREFIX = "\x1etextmill progress "


@dataclass(frozen=True)
class ProgressState:
    """How far some work is: `done` of `total` (None: not known) `unit`s after `seconds`; `over` when it has ended."""

    what: str
    unit: str
    done: int
    total: int | None
    seconds: float
    over: bool
    shown: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """One line of a log: `clean: 1,200/3,000 (40%) shards, 31/s, 58 s left, loss 3.2`."""
        of_total = f"/{self.total:,} ({self.done / self.total:.0%})" if self.total else ""
        rate = self.done / max(self.seconds, 1e-9)
        speed = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        left = (
            ""
            if self.over or not self.total or not self.done
            else f", {duration((self.total - self.done) / rate)} left"
        )
        shown = "".join(f", {key} {value}" for key, value in self.shown.items())
        return f"{self.what}: {self.done:,}{of_total} {self.unit}, {speed}/s{left}{shown}"

    def event_line(self) -> str:
        """One line for `read_progress_event`."""
        return EVENT_PREFIX + json.dumps(asdict(self), default=str)


def read_progress_event(line: str) -> ProgressState | None:
    """The state that a line of a stage tells; None for any other line."""
    if EVENT_PREFIX not in line:
        return None
    try:
        return ProgressState(**json.loads(line.partition(EVENT_PREFIX)[2]))
    except (ValueError, TypeError):  # two processes wrote at once
        return None


def duration(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


class Progress:
    """Counts towards `total` `unit`s of `what`. Use as a context manager.

    In a terminal it is a tqdm bar; elsewhere a log line at most every five seconds, and one at the end.
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "items") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self._log = logging.getLogger("progress")
        self._started = self._last = time.monotonic()
        self._told = -1
        self._shown: dict[str, Any] = {}
        self._events = bool(os.environ.get(EVENTS_VARIABLE))
        terminal = sys.stderr.isatty() and not self._events
        self._bar = tqdm(total=total, desc=what, unit=f" {unit}", leave=False) if terminal else None

    def advance(self, n: int = 1, **shown: Any) -> None:
        """Count `n` more; `shown` are current values worth seeing, e.g. `loss="3.21"`."""
        self.done += n
        self._shown = shown or self._shown
        if self._bar is not None:
            self._bar.set_postfix(self._shown, refresh=False)
            self._bar.update(n)
        elif time.monotonic() - self._last >= (SECONDS_BETWEEN_EVENTS if self._events else SECONDS_BETWEEN_LINES):
            self._tell()

    def _tell(self, over: bool = False) -> None:
        if self.total == 0:
            return
        self._last, self._told = time.monotonic(), self.done
        seconds = self._last - self._started
        state = ProgressState(self.what, self.unit, self.done, self.total, seconds, over, self._shown)
        if self._events:
            print(state.event_line(), file=sys.stderr, flush=True)
        else:
            self._log.info("%s", state.text())

    def __enter__(self) -> Self:
        if self._events:
            self._tell()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._events or (kind is None and self._told != self.done):
            self._tell(over=True)
