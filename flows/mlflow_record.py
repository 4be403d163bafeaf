"""The pipeline run in MLflow: one parent, its stages below it, and an end however the flow ends."""

import logging
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tasks.core.tracking.outbox import OUTBOX_VARIABLE, Outbox, RunRecord, open_outbox

log = logging.getLogger("textmill.flow")


class PipelineRecord:
    """Context of one pipeline run. If MLflow is away, the run goes on and the log says what was not tracked."""

    def __init__(self, root: Path, name: str, command: str, flow_run_id: str | None) -> None:
        self.root, self.name, self.command, self.flow_run_id = root, name, command, flow_run_id
        self._status = "FINISHED"

    def __enter__(self) -> Self:
        self._outbox: Outbox = open_outbox(self.root, psutil.Process())
        self._record = RunRecord(
            self._outbox, "pipeline", self.name, command=self.command, flow_run_id=self.flow_run_id
        )
        return self

    def environment(self) -> dict[str, str]:
        """What a stage's process needs to be found below this run."""
        return {OUTBOX_VARIABLE: str(self._outbox.folder)}

    def cached(self, stages: list[str]) -> None:
        """Add children for the stages whose outputs were made by an earlier run."""
        self._record.append_call("cached", stages=stages)

    def end(self, status: str) -> None:
        """How the run ended: FINISHED (the default), FAILED or KILLED."""
        self._status = status

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._record.append_call("end", status="FAILED" if kind is not None else self._status)
        for what, why in self._record.answer().items():
            log.warning("MLflow did not take %s, so it is not tracked: %s", what, why)
