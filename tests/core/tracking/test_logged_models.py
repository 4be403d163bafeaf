"""Models in MLflow: loaded and asked by its own functions, without their weights being there twice."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.server import free_port, healthy
from flows.supervision import supervised
from flows.ui import MLFLOW_ALONE
from tasks.core.paths import write_json
from tasks.core.tracking.logged_models import generates_text
from tests.helpers.checkout import ROOT
from tests.helpers.running import client, parents, set_params, wait_for
from tests.helpers.tiny import tiny_model

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
    words, left = project / "tasks/words/stage.py", project / "tasks/left/stage.py"
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


@pytest.mark.parametrize(
    ("config", "generates"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, True),
        ({"architectures": ["GPT2LMHeadModel"]}, True),
        ({"architectures": ["BertForMaskedLM"]}, False),
        ({"architectures": ["T5ForConditionalGeneration"]}, False),
        ({}, True),
        (None, False),
    ],
)
def test_decoders_alone_are_logged_as_generating_text(
    config: dict[str, Any] | None, generates: bool, tmp_path: Path
) -> None:
    if config is not None:
        write_json(tmp_path / "config.json", config)
    assert generates_text(tmp_path / "config.json") == generates


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


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """The address of an MLflow server that keeps its artifacts itself."""
    state, port = tmp_path / "server", free_port(0)
    state.mkdir()
    keeps = ["--backend-store-uri", f"sqlite:///{state}/mlflow.db", "--artifacts-destination", str(state / "artifacts")]
    process = supervised.popen(
        [sys.executable, "-m", "mlflow", "server", *keeps, "--workers", "1", "--port", str(port)],
        state,
        {**os.environ, **MLFLOW_ALONE, "PYTHONPATH": str(ROOT)},
    )
    threading.Thread(target=lambda: [None for _ in process.stdout or []], daemon=True).start()
    wait_for(lambda: healthy(f"http://127.0.0.1:{port}/health"))
    yield f"http://127.0.0.1:{port}"
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


@pytest.mark.slow
def test_a_server_gets_runs_and_by_choice_the_models_files(
    project: Path, mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    other = Path(
        shutil.copytree(project, tmp_path / "other", symlinks=True, ignore=shutil.ignore_patterns(".textmill"))
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    store = mlflow.MlflowClient(mlflow_server)

    def models() -> list[Any]:
        experiment = store.get_experiment_by_name("textmill")
        return store.search_logged_models([experiment.experiment_id]) if experiment else []

    for upload, text in ((True, "v"), (False, "u")):
        (other / "execution.yaml").write_text(f"upload_models: {json.dumps(upload)}\n")
        set_params(other, "words", text=text)
        done = subprocess.run([*DVC, "repro"], cwd=other, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        wait_for(lambda: all(model.status == "READY" for model in models()))
        (made,) = (model for model in models() if model.params["text"] == text)
        assert made.artifact_location.startswith("mlflow-artifacts:")
        uri = f"models:/{made.model_id}"
        if upload:
            (told,) = mlflow.transformers.load_model(uri)("the cat", max_new_tokens=2, do_sample=False)
            assert told["generated_text"].startswith("the cat")
        else:
            names = {file.path for file in mlflow.artifacts.list_artifacts(uri)}
            assert not any("safetensors" in name for name in names)
        assert "dvc get" in made.tags["mlflow.note.content"]
    ended = store.search_runs([store.get_experiment_by_name("textmill").experiment_id])
    assert {run.info.status for run in ended} == {"FINISHED"}
    assert not (other / ".textmill/mlflow.db").exists()
