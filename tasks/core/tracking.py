"""One stage's run in MLflow. Tracking never stops the work: if the server is away, the log says what was not recorded."""

import csv
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core import graph
from tasks.core.graph import Node
from tasks.core.params import read_yaml
from tasks.core.paths import STATE, Metrics, write_json
from tasks.core.provenance import provenance
from tasks.core.store import Store, flat_metrics

log = logging.getLogger("textmill.tracking")
SECONDS_BETWEEN_CURVE_POINTS = 5.0
ARTIFACT_SUFFIXES = {".html", ".json", ".jsonl", ".csv", ".svg", ".png"}
ARTIFACT_BYTES = 2_000_000


def signature(cmd: str, dependencies: dict[str, str], params: Any) -> str:
    """What a run of a stage depends on, as one hash: runs with the same signature have the same result."""
    return hashlib.sha256(json.dumps([cmd, dependencies, params], sort_keys=True, default=str).encode()).hexdigest()


class StageRun:
    """The MLflow run of a stage that is being executed."""

    def __init__(self, root: Path, node: Node, dependencies: dict[str, str]) -> None:
        self.root, self.node, self.dependencies = root, node, dependencies
        self.params = read_yaml(root / "params.yaml").get(node.name)
        self.facts = provenance(root)
        self.missed: list[str] = []
        self.store: Store | None = None
        self.parent = self.run_id = ""
        self._stop = threading.Event()
        self._tail: threading.Thread | None = None
        self._points = 0
        self._attempt("the run itself", self._begin)

    def _begin(self) -> None:
        from mlflow.entities import Param

        store = Store(self.root)
        self.parent = store.parent()
        tags = {f"provenance.{key}": value for key, value in self.facts.items()} | {
            "textmill.kind": "stage",
            "textmill.stage": self.node.name,
            "textmill.signature": signature(self.node.cmd, self.dependencies, self.params),
        }
        self.run_id = store.child(self.parent, self.node.name, tags)
        flat = {k: v if isinstance(v, str) else json.dumps(v, default=str) for k, v in (self.params or {}).items()}
        store.client.log_batch(self.run_id, params=[Param(k, v[:6000]) for k, v in flat.items()])
        self.store = store
        self._attempt("input datasets", lambda: self._log_datasets(self.dependencies, "input"))

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # MLflow raises whatever its store does: sqlite, HTTP, its own
            self.missed.append(what)
            log.warning("MLflow did not take %s (%s: %s)", what, type(error).__name__, str(error).splitlines()[:1])

    def follow(self, curves: Path) -> None:
        """Send the rows of `curves` (CSV; a `step` column and numbers) while they are being written."""
        if self.store is None:
            return
        self._tail = threading.Thread(target=self._follow, args=(curves,), daemon=True)
        self._tail.start()

    def _follow(self, curves: Path) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_CURVE_POINTS):
            if curves.exists():
                self._attempt("points of the curves", lambda: self._log_curves(curves))

    def _log_curves(self, curves: Path) -> None:
        from mlflow.entities import Metric

        assert self.store is not None  # noqa: S101
        with curves.open(newline="", encoding="utf-8") as file:
            lines = file.read()
        rows = list(csv.DictReader(lines[: lines.rfind("\n") + 1].splitlines()))
        now = int(time.time() * 1000)
        points = [
            Metric(name, float(value), now, int(row["step"]))
            for row in rows[self._points :]
            for name, value in row.items()
            if name != "step" and value
        ]
        for start in range(0, len(points), 1000):
            self.store.client.log_batch(self.run_id, metrics=points[start : start + 1000])
        self._points = len(rows)

    def _log_datasets(self, hashes: dict[str, str], context: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        assert self.store is not None  # noqa: S101
        datasets = [
            DatasetInput(
                Dataset(name=path, digest=md5, source_type="dvc", source=json.dumps({"path": path, "md5": md5})),
                [InputTag("mlflow.data.context", context)],
            )
            for path, md5 in hashes.items()
            if path.startswith("data/")
        ]
        if datasets:
            self.store.client.log_inputs(self.run_id, datasets)

    def finish(self, metrics: Metrics, timings: dict[str, float]) -> None:
        """Record a finished stage: metrics, timings, curves, outputs by hash, models, readable artifacts."""
        write_json(self.root / STATE / "timings" / f"{self.node.name}.json", timings)
        write_json(self.root / STATE / "provenance" / f"{self.node.name}.json", self.facts)
        self._stop.set()
        if self._tail is not None:
            self._tail.join()
        if self.store is not None:
            folder = self.root / "data" / self.node.name
            self._attempt("metrics", lambda: self._log_metrics(metrics, timings))
            if (folder / "curves.csv").exists():
                self._attempt("curves", lambda: self._log_curves(folder / "curves.csv"))
            self._attempt("artifacts", lambda: self._log_artifacts(folder))
            self._attempt("outputs and models", lambda: self._log_outputs(folder))
            self._attempt("cached stages", self._log_cached)
        self._end("FINISHED", "")

    def _log_metrics(self, metrics: Metrics, timings: dict[str, float]) -> None:
        from tasks.core.lineage import log_stage_metrics

        assert self.store is not None  # noqa: S101
        log_stage_metrics(self.store, self.run_id, self.parent, self.node.name, flat_metrics({**metrics, **timings}))

    def _log_artifacts(self, folder: Path) -> None:
        assert self.store is not None  # noqa: S101
        for path in sorted(folder.iterdir()):
            if path.suffix in ARTIFACT_SUFFIXES and path.stat().st_size <= ARTIFACT_BYTES:
                self.store.client.log_artifact(self.run_id, str(path))

    def _log_outputs(self, folder: Path) -> None:
        from tasks.core.lineage import log_models

        assert self.store is not None  # noqa: S101
        self._log_datasets(graph.output_hashes(self.root, self.node.name), "output")
        log_models(self.store, self.run_id, folder)

    def _log_cached(self) -> None:
        from tasks.core.lineage import log_cached_stages

        assert self.store is not None  # noqa: S101
        log_cached_stages(self.store, self.parent, graph.ancestors(self.root, self.node.name))

    def fail(self, status: str, reason: str) -> None:
        """Record a stage that did not finish; `status` is FAILED or KILLED."""
        self._stop.set()
        self._end(status, reason)

    def _end(self, status: str, reason: str) -> None:
        if self.store is not None:
            self._attempt("the end of the run", lambda: self._close(status, reason))
        if self.missed:
            log.warning("%s: not tracked in MLflow: %s", self.node.name, ", ".join(dict.fromkeys(self.missed)))

    def _close(self, status: str, reason: str) -> None:
        import os

        from tasks.core.store import PARENT_VARIABLE

        assert self.store is not None  # noqa: S101
        if reason:
            self.store.client.set_tag(self.run_id, "textmill.error", reason[:5000])
        self.store.client.set_terminated(self.run_id, status)
        if PARENT_VARIABLE not in os.environ:  # no flow ends the parent: each stage leaves it ended
            self.store.client.set_terminated(self.parent, status)


class NotStarted:
    """Stands where no run has begun: a mistake found before that is told in the terminal alone."""

    def fail(self, status: str, reason: str) -> None:
        """Nothing to record."""


NOT_STARTED = NotStarted()
