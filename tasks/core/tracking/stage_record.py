"""What a stage tells of its run while it runs: written to the outbox for MLflow, and kept in this checkout for the report."""

import logging
from pathlib import Path
from typing import Any

from tasks.core.graph import Node
from tasks.core.params import read_yaml
from tasks.core.paths import STATE, Metrics, write_json
from tasks.core.provenance import provenance
from tasks.core.tracking.outbox import RunRecord, own_outbox

log = logging.getLogger("textmill.tracking")


class StageRecord:
    """The record of a stage that is being executed. Tracking never stops the work: the log says what is not tracked."""

    def __init__(self, root: Path, node: Node, dependencies: dict[str, str]) -> None:
        self.root, self.stage = root, node.name
        self.facts = provenance(root)
        content: dict[str, Any] = {
            "cmd": node.cmd,
            "dependencies": dependencies,
            "params": read_yaml(root / "params.yaml").get(node.name),
            "facts": self.facts,
        }
        self._record = RunRecord(own_outbox(root), "stage", node.name, **content)

    def follow(self, curves: Path) -> None:
        """Have the rows of `curves` (CSV; a `step` column and numbers) sent while they are being written."""
        self._record.append_call("follow", curves=str(curves))

    def finish(self, metrics: Metrics, timings: dict[str, float]) -> None:
        """Record a finished stage: metrics, timings, curves, outputs by hash, models, readable artifacts."""
        write_json(self.root / STATE / "timings" / f"{self.stage}.json", timings)
        write_json(self.root / STATE / "provenance" / f"{self.stage}.json", self.facts)
        self._record.append_call("finish", metrics=metrics, timings=timings)
        self._end()

    def fail(self, status: str, reason: str) -> None:
        """Record a stage that did not finish; `status` is FAILED or KILLED."""
        self._record.append_call("fail", status=status, reason=reason)
        self._end()

    def _end(self) -> None:
        if missed := self._record.answer():
            told = "; ".join(f"{what} ({why})" for what, why in missed.items())
            log.warning("%s: not tracked in MLflow: %s", self.stage, told)


class NotStarted:
    """Stands where no run has begun: a mistake found before that is told in the terminal alone."""

    def fail(self, status: str, reason: str) -> None:
        """Nothing to record."""


NOT_STARTED = NotStarted()
