"""One stage's run in MLflow, as the sender makes it from the stage's record."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core import graph
from tasks.core.paths import Metrics
from tasks.core.tracking.lineage import log_cached_stages, log_datasets, log_stage_metrics
from tasks.core.tracking.logged_models import log_evaluation, log_model_outputs, log_models
from tasks.core.tracking.parent_run import log_curves_on_parent, read_csv_rows, write_description
from tasks.core.tracking.pipeline_run import PipelineRun
from tasks.core.tracking.run_signature import signature
from tasks.core.tracking.run_status import TrackedRun
from tasks.core.tracking.store import Store, flat_metrics

SECONDS_BETWEEN_CURVE_POINTS = 5.0
ARTIFACT_SUFFIXES = {".html", ".json", ".jsonl", ".csv", ".svg", ".png"}
ARTIFACT_BYTES = 2_000_000


class StageRun(TrackedRun):
    """The MLflow run of a stage that is being executed.

    Its record begins with `name`, `cmd`, `dependencies` (DVC's hashes by path), `params` and `facts` (provenance).
    `kept` holds besides `parent` (the id of the parent run), `curves` (the file that is followed) and `points` (its rows
    that were sent).
    """

    def __init__(
        self,
        root: Path,
        store: Callable[[], Store],
        content: dict[str, Any],
        session: dict[str, Any],
        pipeline: PipelineRun | None,
    ) -> None:
        super().__init__(root, store, content)
        self.stage: str = content["name"]
        self.folder = root / "data" / self.stage
        self.session, self.pipeline = session, pipeline
        self.kept |= {"parent": "", "curves": "", "points": 0}
        self._looked = time.monotonic()
        self._machine: Any = None

    def begin(self, **_: Any) -> None:
        """Make the run below its parent."""
        self.attempt("the run itself", self._begin)

    def _begin(self) -> None:
        from mlflow.entities import Param

        graph.load_graph.cache_clear()
        content = self.content
        self.kept["parent"] = self._parent()
        tags = {f"provenance.{key}": value for key, value in content["facts"].items()} | {
            "textmill.kind": "stage",
            "textmill.stage": self.stage,
            "textmill.signature": signature(content["cmd"], content["dependencies"], content["params"]),
            "textmill.owner": content["process"],
        }
        run_id = self.store.child(self.kept["parent"], self.stage, tags)
        self.store.client.log_batch(run_id, params=[Param(k, v) for k, v in self._flat_params().items()])
        self.kept["run_id"] = run_id
        self.attempt("input datasets", lambda: log_datasets(self.store, run_id, content["dependencies"], "input"))

    def _flat_params(self) -> dict[str, str]:
        params = self.content["params"] or {}
        return {k: (v if isinstance(v, str) else json.dumps(v, default=str))[:6000] for k, v in params.items()}

    def _parent(self) -> str:
        if self.pipeline is not None:
            return self.pipeline.parent()
        return self.store.parent(self.session["process"], self.session["command"], self.session["experiment"])

    def follow(self, curves: str) -> None:
        """Send the rows of `curves` (CSV; a `step` column and numbers) while they are being written."""
        self.kept["curves"] = curves

    def poll(self) -> bool:
        """Send the new rows of the curves, every few seconds; and of what trains, how busy it keeps the machine."""
        curves = Path(self.kept["curves"])
        if not self.run_id or time.monotonic() - self._looked < SECONDS_BETWEEN_CURVE_POINTS or not curves.is_file():
            return False
        self._looked, before = time.monotonic(), self.kept["points"]
        self.attempt("points of the curves", lambda: self._log_curves(curves))
        if self._machine is None:
            self.attempt("system metrics", self._watch_machine)
        return bool(self.kept["points"] > before)

    def _watch_machine(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor: Any = SystemMetricsMonitor
        # A sender that is started anew goes on behind the steps of the last one.
        self._machine = monitor(self.run_id, resume_logging=True, tracking_uri=self.store.uri)
        self._machine.start()

    def _log_curves(self, curves: Path) -> None:
        rows, sent = read_csv_rows(curves), self.kept["points"]
        self.store.log_points(self.run_id, rows[sent:])
        log_curves_on_parent(self.store, self.kept["parent"], self.stage, rows[sent:])
        self.kept["points"] = len(rows)

    def finish(self, metrics: Metrics, timings: dict[str, float]) -> None:
        """Record a finished stage: metrics, timings, curves, outputs by hash, models, readable artifacts."""
        if self.run_id:
            self.attempt("metrics", lambda: self._log_metrics(metrics, timings))
            if (self.folder / "curves.csv").exists():
                self.attempt("curves", lambda: self._log_curves(self.folder / "curves.csv"))
            self.attempt("artifacts", self._log_artifacts)
            self.attempt("outputs and models", lambda: self._log_outputs(metrics))
            self.attempt("cached stages", self._log_cached)
        self._end("FINISHED", "")

    def _log_metrics(self, metrics: Metrics, timings: dict[str, float]) -> None:
        numbers = flat_metrics({**metrics, **timings})
        log_stage_metrics(self.store, self.run_id, self.kept["parent"], self.stage, numbers)

    def _log_artifacts(self) -> None:
        for path in sorted(self.folder.iterdir()):
            if path.suffix in ARTIFACT_SUFFIXES and path.stat().st_size <= ARTIFACT_BYTES:
                self.store.client.log_artifact(self.run_id, str(path))

    def _log_outputs(self, metrics: Metrics) -> None:
        log_datasets(self.store, self.run_id, graph.output_hashes(self.root, self.stage), "output")
        if models := log_models(self.store, self.run_id, self.folder, self._flat_params(), metrics):
            log_model_outputs(self.store, self.run_id, models)
            log_model_outputs(self.store, self.kept["parent"], models)
            log_datasets(self.store, self.kept["parent"], self.content["dependencies"], self.stage)
        log_evaluation(self.store, self.run_id, self.content["dependencies"], metrics)

    def _log_cached(self) -> None:
        log_cached_stages(self.store, self.kept["parent"], graph.ancestors(self.root, self.stage))

    def fail(self, status: str, reason: str) -> None:
        """Record a stage that did not finish; `status` is FAILED or KILLED."""
        self._end(status, reason)

    def _end(self, status: str, reason: str) -> None:
        if self._machine is not None:
            self.attempt("system metrics", self._machine.finish)
        if self.run_id:
            self.attempt("the end of the run", lambda: self._close(status, reason))
        self.closed = True

    def _close(self, status: str, reason: str) -> None:
        if reason:
            self.store.client.set_tag(self.run_id, "textmill.error", reason[:5000])
        self.store.client.set_terminated(self.run_id, status)
        if self.pipeline is None:  # no flow ends the parent: each stage leaves it ended
            self.store.client.set_terminated(self.kept["parent"], status)
            write_description(self.store, self.kept["parent"])
