"""The pipeline run in MLflow: one parent, its stages below it, and an end however the flow ends."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.core.graph import load_graph
from tasks.core.store import PARENT_VARIABLE, Store

log = logging.getLogger("textmill.flow")


class PipelineRecord:
    """Context of one pipeline run. If MLflow is away, the run goes on and the log says what was not tracked."""

    def __init__(self, root: Path, name: str, flow_run_id: str | None) -> None:
        self.root, self.name, self.flow_run_id = root, name, flow_run_id
        self.store: Store | None = None
        self.run_id = ""
        self._status = "FINISHED"

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # MLflow raises whatever its store does: sqlite, HTTP, its own
            log.warning("MLflow did not take %s, so it is not tracked: %s: %s", what, type(error).__name__, error)

    def __enter__(self) -> Self:
        self._attempt("the pipeline run", self._begin)
        return self

    def _begin(self) -> None:
        store = Store(self.root)
        store.sweep()
        tags = {"textmill.kind": "pipeline", "prefect.flow_run_id": self.flow_run_id or ""}
        self.run_id = store.create_parent(self.name, tags)
        self.store = store

    def environment(self) -> dict[str, str]:
        """What a stage's process needs to find its parent run."""
        return {PARENT_VARIABLE: self.run_id} if self.run_id else {}

    def cached(self, stages: list[str]) -> None:
        """Add children for the stages whose outputs were made by an earlier run."""
        from tasks.core.lineage import log_cached_stages

        store = self.store
        if store is not None:
            load_graph.cache_clear()
            self._attempt("cached stages", lambda: log_cached_stages(store, self.run_id, stages))

    def end(self, status: str) -> None:
        """How the run ended: FINISHED (the default), FAILED or KILLED."""
        self._status = status

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        store = self.store
        if store is not None:
            status = "FAILED" if kind is not None else self._status
            self._attempt("the end of the run", lambda: store.client.set_terminated(self.run_id, status))
            if status == "KILLED":
                self._attempt("the end of stages that were stopped", store.sweep)
