"""The run of a whole pipeline in MLflow: the parent of its stages' runs."""

from typing import Any

from tasks.core.graph import load_graph
from tasks.core.tracking.lineage import log_cached_stages
from tasks.core.tracking.logged_models import link_models
from tasks.core.tracking.parent_run import write_description
from tasks.core.tracking.run_status import TrackedRun


class PipelineRun(TrackedRun):
    """One flow run; its record begins with `name`, `command` and `flow_run_id`."""

    def begin(self, **_: Any) -> None:
        """Make the run; what killed processes left RUNNING is ended first."""
        self.attempt("the pipeline run", self.parent)

    def parent(self) -> str:
        """The id of the run; made now if MLflow was away when it began. Raises whatever MLflow raises."""
        if not self.run_id:
            self.store.end_orphaned_runs()
            tags = {
                "textmill.kind": "pipeline",
                "textmill.owner": self.content["process"],
                "prefect.flow_run_id": self.content["flow_run_id"] or "",
            }
            self.kept["run_id"] = self.store.create_parent(self.content["name"], self.content["command"], tags)
        return self.run_id

    def cached(self, stages: list[str]) -> None:
        """Add children for the stages whose outputs were made by an earlier run."""
        if self.run_id:
            load_graph.cache_clear()
            self.attempt("cached stages", lambda: log_cached_stages(self.store, self.run_id, stages))

    def end(self, status: str) -> None:
        """Close it: FINISHED, FAILED or KILLED."""
        if self.run_id:
            self.attempt("the end of the run", lambda: self.store.client.set_terminated(self.run_id, status))
            self.attempt("the models' files", lambda: link_models(self.store))
            self.attempt("its description", lambda: write_description(self.store, self.run_id))
        self.closed = True

    def fail(self, status: str, reason: str) -> None:
        """Its process ended without a word."""
        self.end(status)
