"""What runs have to say to MLflow, as files of JSON lines: one process for all of them sends it (`tasks.core.tracking.sender`).

MLflow takes seconds of a core to import and its store serves one writer at a time, so a stage does neither: it writes
a line, and reads at its end what MLflow did not take. A folder of such files belongs to a session: a flow run, a `dvc`
command with its stages, or a stage that runs by itself.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from tasks.core.errors import UserError
from tasks.core.parallel.processes import dvc_process, is_gone, process_identity, typed_command
from tasks.core.paths import state_folder, write_json

OUTBOX_VARIABLE = "TEXTMILL_OUTBOX"
"""Names the flow's outbox to its stages."""
SESSION, SENDER, SENDER_LOG = "session.json", "sender.json", "sender.log"
POLL_INTERVAL_S = 0.02
SENDER_END_TIMEOUT_S = 5.0
MAX_SENDER_STARTS = 3
"""A run whose sender has ended starts another one, which goes on where that one stopped; so often, and then gives up."""


class Outbox:
    """The folder of one session.

    Files: `session.json` (whose it is), `sender.json` (the process that sends), `sender.log`, and of each run
    `<name>.jsonl` (what it says), `<name>.kept` (how far that is sent) and `<name>.answer` (what MLflow did not take).
    """

    def __init__(self, root: Path, folder: Path, alone: bool = False) -> None:
        """`alone`: the session is this process."""
        self.root, self.folder, self.alone = root, folder, alone

    @property
    def session(self) -> dict[str, Any]:
        """`process` (host, pid, start time), `command`, `experiment` (of DVC, or null), `alone` (one stage, no `dvc`)."""
        content: dict[str, Any] = json.loads((self.folder / SESSION).read_text(encoding="utf-8"))
        return content

    def sender_lives(self) -> bool:
        """Whether the process that was started last to send is there."""
        try:
            sender = json.loads((self.folder / SENDER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return not is_gone(sender["process"])

    def ensure_sender(self) -> None:
        """Start a process that sends, unless one lives. It ends itself when the session is over and all is sent."""
        with FileLock(self.folder / "start.lock"):
            if self.sender_lives():
                return
            with (self.folder / SENDER_LOG).open("a", encoding="utf-8") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tasks.core.tracking.sender", str(self.folder)],
                    cwd=self.root,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a terminal's Ctrl-C is for those who have something to stop
                )
            write_json(self.folder / SENDER, {"process": process_identity(process.pid)})


def own_outbox(root: Path) -> Outbox:
    """The outbox that this process writes to: the flow's, that of the `dvc` command that runs it, or one of its own."""
    if given := os.environ.get(OUTBOX_VARIABLE):
        return Outbox(root, Path(given))
    return open_outbox(root, dvc_process())


def open_outbox(root: Path, process: psutil.Process | None) -> Outbox:
    """The outbox of the session that `process` leads; without one, this process is a session by itself."""
    leader = process or psutil.Process()
    key = hashlib.sha256(f"{process_identity(leader.pid)} {root}".encode()).hexdigest()[:16]
    outbox = Outbox(root, state_folder(root) / "outbox" / key, alone=process is None)
    outbox.folder.mkdir(parents=True, exist_ok=True)
    if not (outbox.folder / SESSION).exists():
        session = {
            "process": process_identity(leader.pid),
            "command": typed_command(leader.cmdline()),
            "experiment": os.environ.get("DVC_EXP_NAME"),
            "alone": process is None,
        }
        write_json(outbox.folder / SESSION, session)
    return outbox


class RunRecord:
    """What one run says: a file to which only this process adds. Nothing in here raises for want of MLflow or disk."""

    def __init__(self, outbox: Outbox, kind: str, name: str, **content: Any) -> None:
        """Begin a run; `kind` is `stage` or `pipeline`, `content` what begins it in MLflow."""
        self._outbox = outbox
        self._path = outbox.folder / f"{time.time_ns()}-{os.getpid()}-{kind}.jsonl"  # in the order of their beginnings
        self._failed = ""
        self.append_call("begin", kind=kind, name=name, process=process_identity(), **content)
        self._attempt(outbox.ensure_sender)

    def _attempt(self, action: Any, *arguments: Any) -> None:
        try:
            action(*arguments)
        except (OSError, psutil.Error, UserError) as error:
            self._failed = self._failed or f"{type(error).__name__}: {error}"

    def append_call(self, call: str, **content: Any) -> None:
        """Add a line: a method of the run that the sender keeps (`tasks.core.tracking.stage_run`), and its arguments."""
        self._attempt(self._add, json.dumps({"call": call, **content}, default=str) + "\n")

    def _add(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)

    def answer(self) -> dict[str, str]:
        """Wait until what was said is sent, or cannot be; returns what MLflow did not take, and why. Ends the record."""
        answer, starts = self._path.with_suffix(".answer"), 1
        while not self._failed and not answer.exists():
            if not self._outbox.sender_lives() and not answer.exists():
                if starts == MAX_SENDER_STARTS:
                    self._failed = (
                        f"the process that sends to MLflow ended {MAX_SENDER_STARTS} times: {self._last_words()}"
                    )
                    break
                starts += 1
                self._attempt(self._outbox.ensure_sender)
            time.sleep(POLL_INTERVAL_S)
        if self._failed:
            return {"the run or a part of it": self._failed}
        missed: dict[str, str] = json.loads(answer.read_text(encoding="utf-8"))
        for path in (self._path.with_suffix(".kept"), answer, self._path):
            path.unlink(missing_ok=True)
        if self._outbox.alone:  # then its sender ends with it: nothing of a stage outlives it
            deadline = time.monotonic() + SENDER_END_TIMEOUT_S
            while self._outbox.sender_lives() and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL_S)
        return missed

    def _last_words(self) -> str:
        log = self._outbox.folder / SENDER_LOG
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        return next((line for line in reversed(lines) if line.strip()), "it left no word")
