"""The process that sends to MLflow what runs wrote to an outbox (`tasks.core.tracking.outbox`), one line after the other.

`python -m tasks.core.tracking.sender FOLDER`. It is the only one of a session that imports MLflow and writes to its store. A run
whose process is gone without a word is recorded as killed. When the session's own process is gone, or it is asked to
end by SIGTERM, it ends as soon as no run is left open. Killed, it is started anew by the next who needs it, and goes on
from what it kept: a line that it was about may then be sent twice.
"""

import json
import logging
import os
import shutil
import signal
import sys
import time
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from tasks.core.logs import start_log
from tasks.core.parallel.processes import is_gone
from tasks.core.paths import write_json
from tasks.core.tracking.logged_models import link_models
from tasks.core.tracking.outbox import Outbox
from tasks.core.tracking.pipeline_run import PipelineRun
from tasks.core.tracking.stage_run import StageRun
from tasks.core.tracking.store import Store

log = logging.getLogger(__name__)
POLL_INTERVAL_S = 0.05
CALLS = {"begin", "follow", "cached", "finish", "fail", "end"}


class RecordReader:
    """The reading side of one run's record.

    Attributes:
        run: what is kept of the run in MLflow.
        answered: whether it has ended and what was missed is told.
    """

    def __init__(self, path: Path, run: StageRun | PipelineRun, process: str) -> None:
        self.path, self.run, self.process = path, run, process
        self.answered = path.with_suffix(".answer").exists()
        self._kept = path.with_suffix(".kept")
        self._handled = 0
        if self._kept.exists():
            kept = json.loads(self._kept.read_text(encoding="utf-8"))
            self._handled = kept.pop("handled")
            self.run.kept = kept

    def read(self) -> None:
        """Send what was added since the last time."""
        gone = is_gone(self.process)  # asked before the file is read: what it wrote last is read then
        text = self.path.read_text(encoding="utf-8")
        for line in text[: text.rfind("\n") + 1].splitlines()[self._handled :]:
            content = json.loads(line)
            call = content.pop("call")
            if call in CALLS:
                getattr(self.run, call)(**content)
            self._handled += 1
            self._keep()
        if gone and not self.run.closed:
            self.run.fail("KILLED", "its process was killed")
        if not self.run.closed and self.run.poll():
            self._keep()

    def _keep(self) -> None:
        write_json(self._kept, {"handled": self._handled, **self.run.kept})

    def answer(self) -> None:
        """Tell the run's process what MLflow did not take."""
        write_json(self.path.with_suffix(".answer"), self.run.kept["missed"])
        self.answered = True


class Sender:
    """The session's runs. The flow's pipeline run, where there is one, is the parent of all others."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox, self.session = outbox, outbox.session
        self.readers: dict[Path, RecordReader] = {}
        self.pipeline: RecordReader | None = None
        self.store = cache(lambda: Store(outbox.root))  # what raises is not kept: tried again for the next run

    def poll(self) -> bool:
        """Read all records once; whether none is open."""
        for path in sorted(self.outbox.folder.glob("*.jsonl")):
            if path not in self.readers and (reader := self._open(path)):
                self.readers[path] = reader
        for reader in self.readers.values():
            if not reader.answered and reader is not self.pipeline:
                reader.read()
                if reader.run.closed:
                    reader.answer()
        others = [reader for reader in self.readers.values() if not reader.answered and reader is not self.pipeline]
        if self.pipeline is not None and not self.pipeline.answered:
            self.pipeline.read()
            if self.pipeline.run.closed and not others:  # who waits for the pipeline's end finds nothing running
                self.pipeline.answer()
        return all(reader.answered for reader in self.readers.values())

    def _open(self, path: Path) -> RecordReader | None:
        first, whole, _ = path.read_text(encoding="utf-8").partition("\n")
        if not whole:  # it is being written
            return None
        begin: dict[str, Any] = json.loads(first)
        if begin["kind"] == "pipeline":
            self.pipeline = RecordReader(path, PipelineRun(self.outbox.root, self.store, begin), begin["process"])
            return self.pipeline
        pipeline = self.pipeline.run if self.pipeline else None
        assert pipeline is None or isinstance(pipeline, PipelineRun)  # noqa: S101
        return RecordReader(
            path, StageRun(self.outbox.root, self.store, begin, self.session, pipeline), begin["process"]
        )

    def link_models(self) -> None:
        """Link what the session's stages left and DVC has committed since."""
        try:
            link_models(self.store())
        except Exception as error:  # MLflow raises whatever its store does; the next session, or `make ui`, tries again
            log.warning("models are not linked yet", exc_info=error)

    def over(self) -> bool:
        """Whether nobody is left who could begin a run."""
        told = self.session["alone"] and self.readers and not any(path.exists() for path in self.readers)
        return bool(told) or is_gone(self.session["process"])


def main(folder: Path) -> None:
    """Send until the session is over; then remove its outbox."""
    start_log(logging.WARNING)
    asked = False

    def on_signal(_: int, __: FrameType | None) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGTERM, on_signal)
    sender = Sender(Outbox(Path.cwd(), folder))
    while not sender.poll() or not (asked or sender.over()):
        time.sleep(POLL_INTERVAL_S)
    sender.link_models()
    if sender.over() and sender.poll():  # nothing came since it was seen that nobody is left
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # MLflow's threads would hold the end back
