"""What the sender keeps of any run in MLflow: how far it is, and what MLflow did not take."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core.errors import printable
from tasks.core.tracking.store import Store

log = logging.getLogger("textmill.tracking")


class TrackedRun(ABC):
    """A run in MLflow, and the lines of its record as methods (`begin`, `end`, ...).

    Attributes:
        content: what the run began with.
        kept: what a sender that is started anew needs to go on, as JSON: at least `run_id` (empty where MLflow did not
            take the run) and `missed` (what MLflow did not take, and why).
        closed: whether the run has ended.
    """

    def __init__(self, root: Path, store: Callable[[], Store], content: dict[str, Any]) -> None:
        self.root, self._store, self.content = root, store, content
        self.kept: dict[str, Any] = {"run_id": "", "missed": {}}
        self.closed = False

    @property
    def store(self) -> Store:
        """The store; raises whatever MLflow raises when it does not answer."""
        return self._store()

    @property
    def run_id(self) -> str:
        return str(self.kept["run_id"])

    def attempt(self, what: str, action: Callable[[], object]) -> None:
        """Do it, or note that `what` is not tracked."""
        try:
            action()
        except Exception as error:  # MLflow raises whatever its store does: sqlite, HTTP, its own
            said = next(iter(str(error).splitlines()), "")[:500]
            self.kept["missed"].setdefault(what, printable(f"{type(error).__name__}: {said}"))
            log.warning("MLflow did not take %s", what, exc_info=error)

    def poll(self) -> bool:
        """Called between two lines; whether it sent something."""
        return False

    @abstractmethod
    def fail(self, status: str, reason: str) -> None:
        """End the run as FAILED or KILLED."""
