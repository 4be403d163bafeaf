"""The MLflow store: where it is, its experiment, parent runs and who owns them."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.parallel.processes import is_gone, process_identity
from tasks.core.paths import state_folder
from tasks.core.tracking.moved_checkout import rewrite_moved_paths
from tasks.core.tracking.run_origin import origin

EXPERIMENT = "textmill"


class Store:
    """A client of the tracking server named by MLFLOW_TRACKING_URI, or of this checkout's own sqlite database."""

    def __init__(self, root: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        import mlflow

        self.root, self.state = root, state_folder(root)
        rewrite_moved_paths(self.state)
        own = self.state / "mlflow.db"
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{own}"
        # Two processes that open a fresh database at once both try to create its tables, and one crashes.
        with FileLock(self.state / "mlflow.lock"):
            if not own.exists() and self.uri == f"sqlite:///{own}":
                create_database(own)
            mlflow.set_tracking_uri(self.uri)
            self.client = mlflow.MlflowClient(self.uri)
            self.experiment_id = self._experiment()

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        # An absolute place: by default artifacts would follow the current directory. `moved_checkout` keeps it true.
        own = self.uri.startswith("sqlite:")
        location = (self.state / "mlartifacts").resolve().as_uri() if own else None
        # The kind decides which view the pages open with: runs and curves, not traces of prompts.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(name, artifact_location=location, tags=kind))

    def create_parent(self, name: str, command: str, tags: dict[str, str]) -> str:
        """Create the run of a whole pipeline run, owned by this process if `tags` name no other; returns its id.

        `command` is what started it.
        """
        from mlflow.entities import Param

        tags = {"textmill.owner": process_identity()} | origin(self.root, command) | tags
        run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
        run_id = str(run.info.run_id)
        self.client.log_batch(run_id, params=[Param(k, v) for k, v in flat_params(self.root).items()])
        return run_id

    def parent(self, session: str, command: str, experiment: str | None) -> str:
        """The id of the parent run of a `dvc` process, or of a stage by itself; the first that asks makes it.

        Args:
            session: that process (`processes.process_identity`).
            command: its command line.
            experiment: the name of DVC's experiment, if it is one.
        """
        with FileLock(self.state / "mlflow.lock"):
            found = self.search(f"tags.`textmill.session` = '{session}'")
            if found:
                self.client.update_run(found[0].info.run_id, status="RUNNING")
                return str(found[0].info.run_id)
            self.end_orphaned_runs()
            name = experiment or f"dvc {time.strftime('%Y-%m-%d %H:%M:%S')}"
            tags = {"textmill.session": session, "textmill.kind": "pipeline"}
            tags["textmill.owner"] = session  # it outlives this stage
            tags |= {"dvc.experiment": experiment} if experiment else {}
            return self.create_parent(name, command, tags)

    def search(self, condition: str) -> list[Any]:
        """Runs of the experiment for which `condition` (MLflow's filter language) holds, newest first."""
        return list(self.client.search_runs([self.experiment_id], condition, max_results=1000))

    def child(self, parent: str, name: str, tags: dict[str, str]) -> str:
        """Create a child run; returns its id."""
        tags = {"textmill.owner": process_identity()} | tags | {"mlflow.parentRunId": parent}
        return str(self.client.create_run(self.experiment_id, run_name=name, tags=tags).info.run_id)

    def log_metrics(self, run_id: str, metrics: dict[str, float], model_id: str | None = None) -> None:
        """Log numbers on a run, under their names; with `model_id` also on that model."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._log(run_id, [Metric(name, value, now, 0, model_id, run_id=run_id) for name, value in metrics.items()])

    def log_points(self, run_id: str, rows: list[dict[str, str]], names: dict[str, str] | None = None) -> None:
        """Log rows of curves (`step` and numbers, as text) on a run: all columns, or those of `names` under these names."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [
            Metric(column if names is None else names[column], float(value), now, int(row["step"]))
            for row in rows
            for column, value in row.items()
            if column != "step" and value and (names is None or column in names)
        ]
        self._log(run_id, points)

    def _log(self, run_id: str, metrics: list[Any]) -> None:
        for start in range(0, len(metrics), 1000):  # as many as MLflow takes at once
            self.client.log_batch(run_id, metrics=metrics[start : start + 1000])

    def end_orphaned_runs(self) -> list[str]:
        """End the runs whose process on this host is gone (SIGKILL, power cut) as KILLED; returns their ids."""
        ended = []
        for run in self.search("attributes.status = 'RUNNING'"):
            if is_gone(run.data.tags.get("textmill.owner", "")):
                self.client.set_terminated(run.info.run_id, "KILLED")
                ended.append(str(run.info.run_id))
        return ended


def create_database(database: Path) -> None:
    """Make MLflow's tables beside `database` and rename: a half of them, left by a kill, could never be completed."""
    import mlflow

    beside = database.with_name("mlflow.partial.db")
    for path in (beside, beside.with_name(f"{beside.name}-journal")):
        path.unlink(missing_ok=True)
    mlflow.MlflowClient(f"sqlite:///{beside}").search_experiments(max_results=1)
    beside.replace(database)


def open_store(root: Path) -> Store:
    """The store, for commands that are nothing without it.

    Raises:
        UserError: it does not answer.
    """
    try:
        return Store(root)
    except Exception as error:  # MLflow raises whatever its store does: sqlite, HTTP, its own
        where = os.environ.get("MLFLOW_TRACKING_URI")
        place = f"MLFLOW_TRACKING_URI={where}" if where else str(state_folder(root) / "mlflow.db")
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
        raise UserError(f"MLflow's store does not answer ({place}). Start it, or name another. {reason}") from None


def flat_params(root: Path) -> dict[str, str]:
    """params.yaml as MLflow takes it: dotted keys, values as text (JSON for lists), at most 6,000 characters each."""
    from tasks.core.params import read_yaml

    def walk(value: Any, key: str) -> dict[str, str]:
        if isinstance(value, dict) and value:
            return {k: v for name, inner in value.items() for k, v in walk(inner, f"{key}.{name}").items()}
        return {key: (value if isinstance(value, str) else json.dumps(value, default=str))[:6000]}

    return {k: v for name, block in read_yaml(root / "params.yaml").items() for k, v in walk(block, name).items()}


def flat_metrics(metrics: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested metrics under keys joined by `/`, with the characters that MLflow allows in a name."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        key = prefix + "".join(c if c.isalnum() or c in "_-. /:" else "_" for c in str(name))
        if isinstance(value, dict):
            flat |= flat_metrics(value, key + "/")
        elif isinstance(value, (int, float)):
            flat[key] = float(value)
    return flat


if __name__ == "__main__":
    try:
        open_store(Path.cwd()).end_orphaned_runs()
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
