"""Models in MLflow: loaded and asked by its own functions, without their weights being there twice."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import wait_for
from test_lineage import client
from test_parent import parents
from test_stage import set_params
from tiny import tiny_model

DVC = [sys.executable, "-m", "dvc"]
TRAINS = """import shutil
    shutil.copytree("base", outputs.root, dirs_exist_ok=True)
    (outputs / "curves.csv").write_text("step,loss\\n1,4.5\\n")
    (outputs / "half.txt")"""


@pytest.fixture(scope="module")
def project(toy_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project, whose first stage leaves a model that loads and whose last one measures it; run by `dvc repro`."""
    project = Path(shutil.copytree(toy_template, tmp_path_factory.mktemp("models") / "toy", symlinks=True))
    tiny_model(project / "base")
    words, left = project / "tasks/words.py", project / "tasks/left.py"
    words.write_text(words.read_text().replace('(outputs / "half.txt")', TRAINS))
    left.write_text(left.read_text().replace('return {"length"', 'return {"words": {"bits": 1.5}, "length"'))
    subprocess.run([*DVC, "repro"], cwd=project, check=True, capture_output=True)
    wait_for(lambda: model(project).status == "READY")
    return project


def model(project: Path) -> Any:
    store = client(project)
    experiment = store.get_experiment_by_name("textmill").experiment_id
    (found,) = store.search_logged_models([experiment], "name = 'words'")
    return found


def files(project: Path) -> list[Path]:
    folder = project / ".textmill/mlartifacts/models" / model(project).model_id / "artifacts"
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_logged_model_loads_and_answers(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / '.textmill/mlflow.db'}")
    uri = f"models:/{model(project).model_id}"
    pipeline = mlflow.transformers.load_model(uri)
    (told,) = pipeline("the cat", max_new_tokens=4, do_sample=False)
    assert told["generated_text"].startswith("the cat")
    served = mlflow.pyfunc.load_model(uri)
    answer = served.predict({"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 4})
    assert answer[0]["choices"][0]["message"]["role"] == "assistant"
    registered = mlflow.register_model(uri, "cat")
    assert mlflow.transformers.load_model(f"models:/cat/{registered.version}")("my dog", max_new_tokens=1)


@pytest.mark.slow
def test_its_weights_are_those_of_dvcs_cache(project: Path) -> None:
    names = {path.name for path in files(project)}
    assert {"MLmodel", "config.json", "model.safetensors", "tokenizer.json", "requirements.txt"} <= names
    (spec,) = (path for path in files(project) if path.name == "MLmodel")
    assert str(project) not in spec.read_text()
    assert not {"curves.csv", "out.txt", "half.txt"} & names  # nothing of the stage's that is no model
    (weights,) = (path for path in files(project) if path.name == "model.safetensors")
    cached = [path for path in (project / ".dvc/cache").rglob("*") if path.is_file() and path.samefile(weights)]
    assert len(cached) == 1
    assert weights.stat().st_nlink == 2


@pytest.mark.slow
def test_what_is_known_of_a_model_stands_on_it(project: Path) -> None:
    found = model(project)
    assert {metric.key: metric.value for metric in found.metrics} == {"length": 1, "bits": 1.5}
    assert found.params["text"] == "w"
    (parent,) = parents(project)
    assert found.model_id in {output.model_id for output in parent.outputs.model_outputs}
    described = found.tags["mlflow.note.content"].strip("`")
    for command in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "trained"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    subprocess.run(described.replace("dvc get", f"{sys.executable} -m dvc get"), cwd=project, shell=True, check=True)  # noqa: S602 - what a person pastes
    assert (project / "words/model.safetensors").read_bytes() == (project / "base/model.safetensors").read_bytes()
    shutil.rmtree(project / "words")


@pytest.mark.slow
def test_a_run_that_finds_the_model_made_points_to_it(project: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(project, tmp_path / "other", symlinks=True))
    set_params(other, "join", text="JJ")
    subprocess.run([*DVC, "repro"], cwd=other, check=True, capture_output=True)
    parent = parents(other)[-1]
    assert {output.model_id for output in parent.outputs.model_outputs} == {model(other).model_id}


@pytest.mark.slow
@pytest.mark.parametrize("upload", [False, True])
def test_a_server_gets_the_files_by_choice(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upload: bool
) -> None:
    """A server that keeps artifacts of its own; here its store is asked in process."""
    from tasks.core import logged_models
    from tasks.core.store import Store

    other = Path(shutil.copytree(project, tmp_path / "other", symlinks=True))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other / '.textmill/mlflow.db'}")  # mlflow sets it for good
    (other / "execution.yaml").write_text(f"upload_models: {json.dumps(upload)}\n")
    sent: list[set[str]] = []

    class Client:
        def search_logged_models(self, *_: Any, **__: Any) -> list[Any]:
            found = model(other)
            found._artifact_location = "mlflow-artifacts:/1/models/m"
            return [found]

        def log_model_artifacts(self, _: str, folder: str) -> None:
            sent.append({path.name for path in Path(folder).rglob("*") if path.is_file()})

        def __getattr__(self, name: str) -> Any:
            return lambda *_: sent.append({name})

    store = Store(other)
    store.client = Client()  # type: ignore[assignment]
    logged_models.link_models(store)
    assert ("model.safetensors" in set().union(*sent)) == upload
    assert {"finalize_logged_model"} in sent
