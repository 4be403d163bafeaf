"""What MLflow says beyond the stage at hand: metrics rolled up to the parent, cached stages, models and their hashes."""

import json
import time
from pathlib import Path

from filelock import FileLock

from tasks.core import graph
from tasks.core.params import read_yaml
from tasks.core.store import Store, flat_metrics


def log_stage_metrics(store: Store, run_id: str, parent: str, stage: str, metrics: dict[str, float]) -> None:
    """Log a stage's numbers on its run, and as `<stage>/<name>` on the parent, so that parents alone can be compared."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    for start in range(0, len(metrics), 500):
        some = list(metrics.items())[start : start + 500]
        store.client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in some])
        store.client.log_batch(parent, metrics=[Metric(f"{stage}/{name}", value, now, 0) for name, value in some])


def log_models(store: Store, run_id: str, folder: Path) -> None:
    """Log each model in a stage's output (the folder, or folders in it) as an external model: its place and DVC hash.

    With the place and the hash, `dvc get` and DVC's cache give its files back; nothing is copied.
    """
    import mlflow

    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if not any(place.glob("*.safetensors")) and not any(place.glob("*.gguf")):
            continue
        name = folder.name if place == folder else f"{folder.name}-{place.name}"
        where = place.relative_to(store.root).as_posix()
        # create_external_model has no parameter for the run it belongs to but this one.
        mlflow.create_external_model(
            name=name.replace(".", "_").replace("/", "-"),
            source_run_id=run_id,
            experiment_id=store.experiment_id,
            tags={
                "dvc.path": where,
                "dvc.md5": graph.folder_hash(store.root, place),
                "dvc.output": f"data/{folder.name}",
            },
            model_type="gguf" if any(place.glob("*.gguf")) else "transformers",
        )


def log_cached_stages(store: Store, parent: str, stages: list[str]) -> None:
    """Give `parent` a child `<stage> (cached)` for each of `stages` that has none yet and is recorded in dvc.lock.

    The child points to the run that made the outputs and repeats its metrics.
    """
    from tasks.core.tracking import signature

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
    log_stage_metrics(store, run_id, parent, stage, flat_metrics(json.loads(content)))
    store.client.set_terminated(run_id)


def _finished(made_by: str) -> str:
    return f"tags.`textmill.signature` = '{made_by}' and attributes.status = 'FINISHED'"


def log_unseen_state(store: Store) -> str | None:
    """Add a parent with cached children for the state in dvc.lock, if none has a run of each of its stages; its id.

    Every output must be up to date. `dvc repro` that restores all from DVC's run cache starts no stage that would tell.
    """
    from tasks.core.tracking import signature

    nodes, params = graph.load_graph(store.root), read_yaml(store.root / "params.yaml")
    seen: set[str] | None = None
    for stage, node in nodes.items():
        made_by = signature(node.cmd, graph.locked_hashes(store.root, stage)[0], params.get(stage))
        having = {run.data.tags.get("mlflow.parentRunId", "") for run in store.search(_finished(made_by))}
        seen = having if seen is None else seen & having
    if seen:
        return None
    name = f"restored {time.strftime('%Y-%m-%d %H:%M:%S')}"
    parent = store.create_parent(name, {"textmill.kind": "pipeline"})
    log_cached_stages(store, parent, list(nodes))
    store.client.set_terminated(parent)
    return parent
