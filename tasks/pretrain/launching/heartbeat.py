"""Heartbeats: each rank says how far it is, and when it stands still the stacks of all ranks are written.

In `work/ranks/`: `<rank>.json` (where the rank runs, its progress), `<rank>.stack` (the stacks of its threads, once it was
sent SIGUSR1). Whoever watches compares a file with what it was before, never a time of one machine with one of another.
"""

import faulthandler
import json
import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.core.paths import write_json

FOLDER = "ranks"
BEAT_EVERY_S = 1.0
"""Steps shorter than this do not each write a file."""
WAITING = "distributed_c10d.py"
"""A rank that waits for others has this module of torch on its stack."""


class Heartbeat:
    """What one rank writes."""

    def __init__(self, work: Path, rank: int) -> None:
        self.folder, self.rank = work / FOLDER, rank
        self.folder.mkdir(parents=True, exist_ok=True)
        self.beats, self._written = 0, 0.0
        # Kept open: what writes into it may run when nothing else can.
        self._stack = (self.folder / f"{rank}.stack").open("w")
        # In C, so that a thread that never comes back to Python is seen as well.
        faulthandler.register(signal.SIGUSR1, file=self._stack, all_threads=True, chain=False)
        self._write()

    def beat(self) -> None:
        """Say that this rank has come on."""
        self.beats += 1
        if self.beats == 1 or time.monotonic() - self._written > BEAT_EVERY_S:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        write_json(
            self.folder / f"{self.rank}.json",
            {"host": socket.gethostname(), "pid": os.getpid(), "beats": self.beats},
        )


_own: Heartbeat | None = None


def start(work: Path, rank: int) -> None:
    """Make this process's heartbeat, before anything that may hang."""
    global _own
    _own = Heartbeat(work, rank)


def beat() -> None:
    """Call after each step, batch of the validation and checkpoint. The first begins the watch over the run."""
    if _own is not None:
        _own.beat()


@dataclass
class Watch:
    """Watches the heartbeats of all ranks, from node 0."""

    work: Path
    ranks: int
    timeout_s: float
    _seen: dict[int, tuple[int, float]] = field(default_factory=dict)

    def silent_s(self) -> float:
        """For how long no rank has come on, once one has begun; 0 before."""
        now, last = time.monotonic(), None
        for rank in range(self.ranks):
            beats = int(_read(self.work, rank).get("beats", 0))
            if beats and self._seen.get(rank, (0, 0.0))[0] != beats:
                self._seen[rank] = (beats, now)
        for _, moment in self._seen.values():
            last = moment if last is None else max(last, moment)
        return 0.0 if last is None else now - last

    @property
    def expired(self) -> bool:
        return self.silent_s() > self.timeout_s


def forget(work: Path) -> None:
    """Remove what an earlier run left."""
    for path in (work / FOLDER).glob("*"):
        path.unlink(missing_ok=True)


def write_stacks(work: Path, ranks: range) -> None:
    """Have those of `ranks` that run on this machine write their stacks."""
    for rank in ranks:
        with suppress(KeyError, ProcessLookupError):
            os.kill(int(_read(work, rank)["pid"]), signal.SIGUSR1)


def wait_for_stacks(work: Path, ranks: int, timeout_s: float = 10) -> dict[int, str]:
    """Rank to its stack, of those that wrote one in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        stacks = {rank: _stack(work, rank) for rank in range(ranks)}
        if all(stacks.values()) or time.monotonic() > deadline:
            time.sleep(0.2)  # the last lines of the last one
            return {rank: text for rank in range(ranks) if (text := _stack(work, rank))}
        time.sleep(0.1)


def hung_ranks(stacks: dict[int, str], ranks: int) -> list[int]:
    """Those that do not wait for others, as far as their stacks tell; all where none stands out."""
    stuck = [rank for rank in range(ranks) if WAITING not in stacks.get(rank, "")]
    return stuck or list(range(ranks))


def _stack(work: Path, rank: int) -> str:
    path = work / FOLDER / f"{rank}.stack"
    return path.read_text(errors="replace") if path.exists() else ""


def _read(work: Path, rank: int) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content: dict[str, Any] = json.loads((work / FOLDER / f"{rank}.json").read_text())
        return content
    return {}
