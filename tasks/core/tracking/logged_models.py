"""Models in MLflow: its `transformers` flavour loads them, and their weights are hard links (or reflinks) to DVC's cache.

A stage's outputs enter DVC's cache after the stage has ended, so a model is logged as pending and becomes ready at the end
of its session (`link_models`). A server that keeps artifacts of its own gets the files if execution.yaml says
`upload_models`, else only where they are. So it is with GGUF files, for which MLflow has no flavour. Encoders and encoder-decoders, for
which it has no pipeline, are logged by their place alone.
"""

import json
import os
import platform
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tasks.core import graph
from tasks.core.execution import load_execution
from tasks.core.links import link_file
from tasks.core.tracking.store import Store, flat_metrics

PENDING_TAG = "textmill.files"
"""Tag of a model whose files are yet to be linked or sent."""
EXTERNAL = {"mlflow.model.isExternal": "true"}
TOKENIZER = ("tokenizer", "chat_template", "special_tokens", "added_tokens", "vocab", "merges")
"""How the names of the files begin that `AutoTokenizer` reads."""
PACKAGES = ("mlflow", "transformers", "torch", "accelerate")
"""What loading a model takes."""


def log_models(store: Store, run_id: str, folder: Path, params: dict[str, str], metrics: dict[str, Any]) -> list[str]:
    """Log each model in a stage's output (the folder, or folders in it); returns their ids.

    Args:
        params: of the stage.
        metrics: what it measured; of a model in a folder of its own, what stands under that folder's name.
    """
    ids = []
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if any(place.glob("*.safetensors")) or any(place.glob("*.gguf")):
            ids.append(_log_model(store, run_id, place, folder, params))
            measured = metrics if place == folder else _under(metrics, place.name)
            store.log_metrics(run_id, {k: v for k, v in flat_metrics(measured).items() if "/" not in k}, ids[-1])
    return ids


def _under(metrics: dict[str, Any], name: str) -> dict[str, Any]:
    found = [inner[name] for inner in metrics.values() if isinstance(inner, dict) and isinstance(inner.get(name), dict)]
    return found[0] if found else {}


def _log_model(store: Store, run_id: str, place: Path, folder: Path, params: dict[str, str]) -> str:
    output, where = f"data/{folder.name}", place.relative_to(store.root).as_posix()
    of_output = graph.output_hashes(store.root, folder.name)[output]
    name = (folder.name if place == folder else f"{folder.name}-{place.name}").replace(".", "_").replace("/", "-")
    about: dict[str, Any] = {
        "name": name,
        "source_run_id": run_id,
        "experiment_id": store.experiment_id,
        "params": params,
        "model_type": "gguf" if any(place.glob("*.gguf")) else "transformers",
        "tags": {
            "dvc.path": where,
            "dvc.md5": graph.folder_hash(store.root, place),
            "dvc.output": output,
            "dvc.output_md5": of_output,
            # The commit that first has it: it is made after the run.
            "mlflow.note.content": f"`dvc get . {where} -o {name} --rev $(git log --all --reverse --format=%h -S {of_output} "
            "-- dvc.lock | head -1)`",
        },
    }
    loads = about["model_type"] == "transformers" and generates_text(place / "config.json")
    about["tags"] |= {PENDING_TAG: "awaited"} if loads else EXTERNAL
    model = store.client.create_logged_model(**about)
    if not loads:
        _make_external(store, model)
    return str(model.model_id)


def generates_text(config: Path) -> bool:
    """Whether a model is a decoder; for others MLflow has no pipeline that fits, so they are logged as GGUF files are."""
    if not config.exists():
        return False
    classes = json.loads(config.read_text(encoding="utf-8")).get("architectures") or []
    return all(name.endswith(("ForCausalLM", "LMHeadModel")) for name in classes)


def _make_external(store: Store, model: Any) -> None:
    """What `mlflow.create_external_model` does: a specification without files, so that the model can be registered."""
    from mlflow.entities import LoggedModelStatus
    from mlflow.models.utils import get_external_mlflow_model_spec

    spec = get_external_mlflow_model_spec(model)
    spec.artifact_path = model.name  # else its absolute place
    with tempfile.TemporaryDirectory(dir=store.state) as folder:
        spec.save(f"{folder}/MLmodel")
        store.client.log_model_artifacts(model.model_id, folder)
    store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def link_models(store: Store) -> None:
    """Make those pending models ready whose files are in DVC's cache."""
    waiting = f"tags.`{PENDING_TAG}` = 'awaited'"
    found = store.client.search_logged_models([store.experiment_id], waiting, max_results=50)
    if not found:
        return
    with graph.open_repo(Path(os.environ.get("DVC_ROOT") or store.root)) as repo:
        for model in found:
            files = _cached_files(repo.cache.local, model.tags)
            if files:
                _make_ready(store, model, files)


def _cached_files(cache: Any, tags: dict[str, str]) -> dict[str, Path]:
    """Name → file in DVC's cache of the model's files; none if any of them is not there."""
    listing = Path(cache.oid_to_path(tags["dvc.output_md5"]))
    if not listing.exists():
        return {}
    within = tags["dvc.path"].removeprefix(tags["dvc.output"]).strip("/")
    found = {
        name: Path(cache.oid_to_path(file["md5"]))
        for file in json.loads(listing.read_text(encoding="utf-8"))
        if (path := Path(file["relpath"])).parent.as_posix() == (within or ".") and is_model_file(name := path.name)
    }
    return found if all(path.exists() for path in found.values()) else {}


def is_model_file(name: str) -> bool:
    """Whether a file of a model's folder is what loading the model takes; curves and replies of people are not."""
    return name in ("config.json", "generation_config.json") or ".safetensors" in name or name.startswith(TOKENIZER)


def _make_ready(store: Store, model: Any, files: dict[str, Path]) -> None:
    from mlflow.entities import LoggedModelStatus

    if model.artifact_location.startswith(("file:", "/")):
        target = Path(url2pathname(urlsplit(model.artifact_location).path))
        shutil.rmtree(target, ignore_errors=True)  # what a killed process left
        _write(target, model, files)
    elif load_execution(store.root).upload_models:
        with tempfile.TemporaryDirectory(dir=store.state) as folder:
            _write(Path(folder), model, files)
            store.client.log_model_artifacts(model.model_id, folder)
    else:
        store.client.set_logged_model_tags(model.model_id, EXTERNAL)
        _make_external(store, model)
    store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    store.client.set_logged_model_tags(model.model_id, {PENDING_TAG: "there"})


def _write(target: Path, model: Any, files: dict[str, Path]) -> None:
    """Lay a model out as `mlflow.transformers.save_model` does, its files being links."""
    import mlflow.pyfunc
    from mlflow.models import Model
    from mlflow.transformers.llm_inference_utils import infer_signature_from_llm_inference_task

    for name, cached in files.items():
        folder = target / ("components/tokenizer" if name.startswith(TOKENIZER) else "model")
        folder.mkdir(parents=True, exist_ok=True)
        link_file(cached, folder / name)
    config = json.loads(files["config.json"].read_text(encoding="utf-8"))
    tokenizer = json.loads(files["tokenizer_config.json"].read_text(encoding="utf-8"))
    task = "llm/v1/chat" if "chat_template.jinja" in files or tokenizer.get("chat_template") else "llm/v1/completions"
    spec = Model(
        artifact_path=model.name,
        run_id=model.source_run_id,
        model_id=model.model_id,
        signature=infer_signature_from_llm_inference_task(task),
        metadata={"task": task, "dvc_path": model.tags["dvc.path"], "dvc_md5": model.tags["dvc.md5"]},
    )
    spec.add_flavor(
        "transformers",
        transformers_version=version("transformers"),
        task="text-generation",
        inference_task=task,
        instance_type="TextGenerationPipeline",
        pipeline_model_type=config["architectures"][0],
        source_model_name=model.name,
        model_binary="model",
        torch_dtype=f"torch.{config.get('dtype') or config.get('torch_dtype') or 'float32'}",
        components=["tokenizer"],
        tokenizer_type=tokenizer.get("tokenizer_class", "AutoTokenizer"),
        code=None,
    )
    requirements = "".join(f"{name}=={version(name)}\n" for name in PACKAGES)
    (target / "requirements.txt").write_text(requirements, encoding="utf-8")
    mlflow.pyfunc.add_to_model(spec, loader_module="mlflow.transformers", python_env="python_env.yaml")
    environment = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}  # JSON is YAML
    (target / "python_env.yaml").write_text(json.dumps(environment), encoding="utf-8")
    spec.save(str(target / "MLmodel"))


def find_models(store: Store, **tags: str) -> list[Any]:
    """Models of the experiment with these tags (`dvc_md5` for `dvc.md5`), newest first."""
    condition = " AND ".join(f"tags.`{name.replace('_', '.', 1)}` = '{value}'" for name, value in tags.items())
    return list(store.client.search_logged_models([store.experiment_id], condition, max_results=50))


def log_model_outputs(store: Store, run_id: str, ids: list[str]) -> None:
    """List models among the outputs of a run."""
    from mlflow.entities import LoggedModelOutput

    store.client.log_outputs(run_id, models=[LoggedModelOutput(model_id, 0) for model_id in ids])


def log_evaluation(store: Store, run_id: str, dependencies: dict[str, str], metrics: dict[str, Any]) -> None:
    """Put what a stage measured of an earlier stage's model, under that stage's name, on that model too."""
    for name, measured in metrics.items():
        if isinstance(measured, dict) and (md5 := dependencies.get(f"data/{name}")):
            for model in find_models(store, dvc_output=f"data/{name}", dvc_output_md5=md5):
                store.log_metrics(run_id, flat_metrics(measured), model.model_id)
