"""What MLflow says beyond the stage at hand: cached stages, models and their hashes."""

import json
import time

from filelock import FileLock

from tasks.core import graph
from tasks.core.graph import load_stage
from tasks.core.params import read_yaml
from tasks.core.tracking.logged_models import find_models, log_model_outputs
from tasks.core.tracking.parent_run import log_curves_on_parent, log_on_parent, read_csv_rows, write_description
from tasks.core.tracking.run_signature import signature
from tasks.core.tracking.store import Store, flat_metrics


def log_stage_metrics(store: Store, run_id: str, parent: str, stage: str, metrics: dict[str, float]) -> None:
    """Log a stage's numbers on its run, and on the parent those that are to be shown there."""
    store.log_metrics(run_id, metrics)
    log_on_parent(store, parent, stage, metrics)


def log_datasets(store: Store, run_id: str, hashes: dict[str, str], context: str) -> None:
    """Log the data among `hashes` (path → DVC's md5) as datasets of a run; `context` says what they are to it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    datasets = [
        DatasetInput(
            Dataset(name=path, digest=md5, source_type="dvc", source=json.dumps({"path": path, "md5": md5})),
            [InputTag("mlflow.data.context", context)],
        )
        for path, md5 in hashes.items()
        if path.startswith("data/")
    ]
    if datasets:
        store.client.log_inputs(run_id, datasets)


def log_cached_stages(store: Store, parent: str, stages: list[str]) -> None:
    """Give `parent` a child `<stage> (cached)` for each of `stages` that has none yet and is recorded in dvc.lock.

    The child points to the run that made the outputs and repeats its metrics.
    """
    nodes, params = graph.load_graph(store.root), read_yaml(store.root / "params.yaml")
    found = {}
    for stage in set(stages) - _children(store, parent):
        dependencies, outputs = graph.locked_hashes(store.root, stage)
        if outputs and (store.root / "metrics" / f"{stage}.json").exists():
            found[stage] = signature(nodes[stage].cmd, dependencies, params.get(stage))
    if not found:
        return
    with FileLock(store.state / "mlflow.lock"):  # stages that end at once would each add the same children
        have = _children(store, parent)
        for stage in [stage for stage in stages if stage in found and stage not in have]:
            _log_cached_stage(store, parent, stage, found[stage])


def _children(store: Store, parent: str) -> set[str | None]:
    return {run.data.tags.get("textmill.stage") for run in store.search(f"tags.`mlflow.parentRunId` = '{parent}'")}


def _log_cached_stage(store: Store, parent: str, stage: str, made_by: str) -> None:
    made = store.search(f"{_finished(made_by)} and tags.`textmill.kind` = 'stage'")
    tags = {"textmill.kind": "cached", "textmill.stage": stage, "textmill.signature": made_by}
    if made:
        tags["textmill.made_by_run"] = made[0].info.run_id
    run_id = store.child(parent, f"{stage} (cached)", tags)
    content = (store.root / "metrics" / f"{stage}.json").read_text(encoding="utf-8")
    # Of the timings of the run that made it, those that are shown on the parent; how long it took is that run's.
    told = load_stage(store.root, stage).meta.get("shown", [])
    timings = {name: v for name, v in made[0].data.metrics.items() if name in told} if made else {}
    log_stage_metrics(store, run_id, parent, stage, flat_metrics(json.loads(content)) | timings)
    curves = store.root / "data" / stage / "curves.csv"
    if curves.exists():
        log_curves_on_parent(store, parent, stage, read_csv_rows(curves))
    dependencies, outputs = graph.locked_hashes(store.root, stage)
    if models := find_models(store, dvc_output_md5=outputs.get(f"data/{stage}", "")):
        log_model_outputs(store, parent, list({model.name: model.model_id for model in reversed(models)}.values()))
        log_datasets(store, parent, dependencies, stage)
    store.client.set_terminated(run_id)


def _finished(made_by: str) -> str:
    return f"tags.`textmill.signature` = '{made_by}' and attributes.status = 'FINISHED'"


def log_unseen_state(store: Store) -> str | None:
    """Add a parent with cached children for the state in dvc.lock, if none has a run of each of its stages; its id.

    Every output must be up to date. `dvc repro` that restores all from DVC's run cache starts no stage that would tell.
    """
    nodes, params = graph.load_graph(store.root), read_yaml(store.root / "params.yaml")
    seen: set[str] | None = None
    for stage, node in nodes.items():
        made_by = signature(node.cmd, graph.locked_hashes(store.root, stage)[0], params.get(stage))
        having = {run.data.tags.get("mlflow.parentRunId", "") for run in store.search(_finished(made_by))}
        seen = having if seen is None else seen & having
    if seen:
        return None
    name = f"restored {time.strftime('%Y-%m-%d %H:%M:%S')}"
    parent = store.create_parent(name, "dvc repro", {"textmill.kind": "pipeline"})
    log_cached_stages(store, parent, list(nodes))
    write_description(store, parent)
    store.client.set_terminated(parent)
    return parent
