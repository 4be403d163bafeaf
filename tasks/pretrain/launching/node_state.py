"""What the launchers of several machines tell each other: files in `work/nodes/<run>/`, since the work folder is seen by all.

Each writes `<node>.json` every few seconds: host, a number that grows, and its exit code once it has ended. A machine that
is gone writes no more. No clock of one machine is compared with another's.
"""

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.core.paths import write_json

FOLDER = "nodes"
BEAT_EVERY_S = 2.0
GONE_AFTER_S = 120.0
"""A node that has not written for this long is taken to be gone; shared file systems show what is new after up to a minute."""
CALL = Path("training-node.json")
"""In .textmill: tells nodes that nobody starts (Kubernetes) which run they belong to."""


class NodeState:
    """One node's file, and what it last saw of the others'."""

    def __init__(self, work: Path, run: str, node: int, host: str) -> None:
        self.folder, self.run, self.node, self.host = work / FOLDER / run, run, node, host
        self.folder.mkdir(parents=True, exist_ok=True)
        self._beats, self._written = 0, float("-inf")
        self._seen: dict[int, tuple[int, float]] = {}

    def beat(self) -> None:
        """Say that this node lives."""
        if time.monotonic() - self._written > BEAT_EVERY_S:
            self._written = time.monotonic()
            self._beats += 1
            self._write(None)

    def end(self, code: int) -> None:
        """Say that this node's ranks have ended."""
        self._write(code)

    def _write(self, ended: int | None) -> None:
        write_json(self.folder / f"{self.node}.json", {"host": self.host, "beats": self._beats, "ended": ended})

    def ended(self, other: int) -> int | None:
        """The exit code of `other`, if it has ended; 0 or what its ranks left."""
        code = self._read(other).get("ended")
        return None if code is None else int(code)

    def beats_of(self, other: int) -> int:
        """The number that grows while `other` lives; 0 before it has begun."""
        return int(self._read(other).get("beats", 0))

    def silent_s(self, other: int) -> float:
        """For how long `other` has written nothing new, as far as this process has watched."""
        now, beats = time.monotonic(), self.beats_of(other)
        if other not in self._seen or self._seen[other][0] != beats:
            self._seen[other] = (beats, now)
        return now - self._seen[other][1]

    def gone(self, other: int) -> bool:
        """Whether `other` was lost without a word."""
        return self.ended(other) is None and self.silent_s(other) > GONE_AFTER_S

    def ask_for_stacks(self) -> None:
        """Have every node's launcher send its ranks the signal for their stacks."""
        (self.folder / "stacks").touch()

    def asked_for_stacks(self) -> bool:
        return (self.folder / "stacks").exists()

    def _read(self, other: int) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            content: dict[str, Any] = json.loads((self.folder / f"{other}.json").read_text())
            return content
        return {}


def forget(work: Path) -> None:
    """Remove what earlier runs left."""
    shutil.rmtree(work / FOLDER, ignore_errors=True)
