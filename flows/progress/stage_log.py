"""What a running stage says, passed on: lines to Prefect's log and the terminal, progress to the bars and, now and then, as a line."""

import logging
import time
from types import TracebackType
from typing import Any, Self

from flows.progress.time_left import RunProgress
from tasks.core.progress import SECONDS_BETWEEN_LINES, ProgressState, duration

PROGRESS_LOG = logging.getLogger("textmill.news")
"""Progress for whoever draws it (flows.progress.terminal); else nobody listens. Prefect is told lines only: it keeps them all."""
PROGRESS_LOG.propagate = False
PROGRESS_LOG.addHandler(logging.NullHandler())
PROGRESS_LOG.setLevel(logging.INFO)
QUIET_S = 15.0
"""A stage that says nothing for so long is said to be at work still; then after twice as long, and so on."""


class StageLog:
    """The log of one stage of a run; a context while it runs.

    What it logs carries `textmill`: the stage, and what kind of line it is (`begin`, `end`, `line`, or `count`, which
    stands for a bar where none can be drawn).
    """

    def __init__(self, log: Any, stage: str, run_progress: RunProgress) -> None:
        self._log, self.stage, self._run_progress = log, stage, run_progress
        self._began = self._said = self._counted = time.monotonic()
        self._quiet_s = QUIET_S

    def _say(self, kind: str, text: str) -> None:
        self._said = time.monotonic()
        said = {
            "stage": self.stage,
            "kind": kind,
            "done": self._run_progress.done(),
            "left_s": self._run_progress.left_s(),
        }
        self._log.info("%s", text, extra={"textmill": said | {"total": self._run_progress.total}})

    def __enter__(self) -> Self:
        """It starts to run."""
        self._run_progress.begin(self.stage)
        self._began = time.monotonic()
        self._say("begin", f"{self._run_progress.place(self.stage)}: {self.stage}")
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """It has failed or was stopped: whoever has it run says why."""
        if kind is not None:
            PROGRESS_LOG.info("", extra={"textmill": {"stage": self.stage, "kind": "gone"}})

    def end(self, outcome: str) -> None:
        """It is up to date; `outcome` says how it came to be."""
        took, place = self._run_progress.end(self.stage), self._run_progress.place(self.stage)
        left = self._run_progress.left_s()
        about = f"; about {duration(left)} left" if left and left >= 1 else ""
        self._say("end", f"{place}: {self.stage} {outcome} in {duration(took)}{about}")

    def line(self, text: str) -> None:
        """It has printed a line."""
        self._quiet_s = QUIET_S
        self._say("line", text)

    def report(self, state: ProgressState | None) -> None:
        """It tells how far it is, or (None) it goes on without a word."""
        now = time.monotonic()
        if state is not None:
            PROGRESS_LOG.info("", extra={"textmill": {"stage": self.stage, "kind": "news", "state": state}})
            due = now - self._counted >= SECONDS_BETWEEN_LINES and state.done != state.total  # the last line says all
            if (state.over or due) and state.done:
                self._counted, self._quiet_s = now, QUIET_S
                self._say("count", state.text())
        elif now - self._said >= self._quiet_s:
            self._quiet_s *= 2
            self._say("count", f"{self.stage}: at work for {duration(now - self._began)}")
