"""How far a run is: which stage of how many, and how long the rest will take by what the stages took the last time."""

import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from tasks.core.paths import STATE, write_json


class RunProgress:
    """The stages of one run, in their order; those that run may do so at the same time.

    Attributes:
        total: how many stages there are.
    """

    def __init__(self, root: Path, stages: list[str], to_run: Iterable[str]) -> None:
        self.total, self._root, self._stages = len(stages), root, stages
        self._waiting: set[str] = set()
        self._seconds: dict[str, float | None] = {}
        self._started: dict[str, float] = {}
        self._lock = threading.Lock()
        self.expect(to_run)

    def expect(self, stages: Iterable[str]) -> None:
        """These will run as well, as has turned out."""
        with self._lock:
            self._waiting.update(stages)
            self._seconds |= {stage: _last_time(self._root, stage) for stage in self._waiting - self._seconds.keys()}

    def place(self, stage: str) -> str:
        """`stage 4 of 12`."""
        return f"stage {self._stages.index(stage) + 1} of {self.total}"

    def begin(self, stage: str) -> None:
        """A stage starts to run, perhaps once more."""
        with self._lock:
            self._started[stage] = time.monotonic()

    def end(self, stage: str) -> float:
        """A stage is up to date; the seconds that took, kept for the next run."""
        with self._lock:
            self._waiting.discard(stage)
            seconds = time.monotonic() - self._started.pop(stage)
        write_json(_kept(self._root, stage), {"seconds": seconds})
        return seconds

    def done(self) -> int:
        """How many stages are up to date."""
        with self._lock:
            return self.total - len(self._waiting)

    def left_s(self) -> float | None:
        """Seconds until the end, one stage after the other; None where a stage that is left has never run here."""
        with self._lock:
            left = 0.0
            for stage in self._waiting:
                if (needed := self._seconds[stage]) is None:
                    return None
                started = self._started.get(stage)
                left += max(0.0, needed - (time.monotonic() - started if started else 0.0))
            return left


def _last_time(root: Path, stage: str) -> float | None:
    try:
        return float(json.loads(_kept(root, stage).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError):
        return None


def _kept(root: Path, stage: str) -> Path:
    """Not the stage's own timing: what DVC does around it counts too."""
    return root / STATE / "course" / f"{stage}.json"
