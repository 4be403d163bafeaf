"""What MLflow knows of a stage's run: where it came from, what went in and out by hash, its curves, pages and models."""

import hashlib
import json
import platform
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tasks.core import graph
from tasks.core.params import read_yaml
from tasks.model.curves import PRETRAINING_COLUMNS, TUNING_COLUMNS
from tasks.prefer.training import COLUMNS as REWARD_COLUMNS
from tests.helpers.checkout import ROOT
from tests.helpers.running import client, runs, set_params, stage

# A stage that trains: a curve, pages, a model of its own and two exported ones of different content.
TRAINING = """(outputs / "half.txt").write_text("half")
    (outputs / "curves.csv").write_text("step,loss,validation\\n1,4.5,\\n2,3.5,1.25\\n")
    (outputs / "report.json").write_text("{}")
    (outputs / "index.html").write_text("<html></html>")
    (outputs / "large.json").write_bytes(b" " * 2_000_001)
    (outputs / "model.safetensors").write_bytes(b"weights")
    for name in ("f16", "q4_0"):
        (outputs / name).mkdir()
        (outputs / name / "model.gguf").write_text(name)
"""


@pytest.fixture(scope="module")
def trained(toy_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project with a training first stage, both first stages run; committed but for one line of code."""
    project = tmp_path_factory.mktemp("lineage") / "toy"
    subprocess.run(["cp", "-r", str(toy_template), str(project)], check=True)
    (project / "requirements.lock").write_text("torch==0\n")
    path = project / "tasks/words/stage.py"
    path.write_text(path.read_text().replace('(outputs / "half.txt").write_text("half")\n', TRAINING))
    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "training"]
    subprocess.run(commit, cwd=project, check=True)
    assert stage(project).returncode == 0
    set_params(project, "left", text="L")
    assert stage(project, "left").returncode == 0
    return project


def run_of(project: Path, name: str) -> Any:
    return next(run for run in runs(project) if run.info.run_name == name)


def dvc_hash(folder: Path) -> str:
    """DVC's hash of a folder by its published format: md5 of the JSON list of its files' md5 and paths, in order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(folder).as_posix()}  # noqa: S324
        for path in files
    ]
    return hashlib.md5(json.dumps(rows, sort_keys=True).encode()).hexdigest() + ".dir"  # noqa: S324


@pytest.mark.slow
def test_provenance_of_a_run(trained: Path) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=trained, capture_output=True, text=True, check=True)
    words, left = (
        {k.removeprefix("provenance."): v for k, v in run_of(trained, name).data.tags.items()}
        for name in ("words", "left")
    )
    assert words["commit"] == left["commit"] == commit.stdout.strip()
    assert (words["dirty"], left["dirty"]) == ("False", "True")  # params.yaml was edited in between
    assert words["lock_sha256"] == hashlib.sha256(b"torch==0\n").hexdigest()
    assert words["host"] == platform.node()
    assert words["python"] == platform.python_version()
    assert {name: words[name] for name in ("torch", "dvc", "mlflow")} == {
        name: version(name) for name in ("torch", "dvc", "mlflow")
    }
    kept = json.loads((trained / ".textmill/provenance/words.json").read_text())
    assert kept.items() <= words.items()


@pytest.mark.slow
def test_curves_and_artifacts_of_a_run(trained: Path) -> None:
    store, run = client(trained), run_of(trained, "words")
    points = {name: store.get_metric_history(run.info.run_id, name) for name in ("loss", "validation")}
    drawn = {name: [(point.step, point.value) for point in found] for name, found in points.items()}
    assert drawn == {"loss": [(1, 4.5), (2, 3.5)], "validation": [(2, 1.25)]}
    artifacts = {item.path for item in store.list_artifacts(run.info.run_id)}
    assert artifacts == {"curves.csv", "report.json", "index.html"}  # readable ones, of a size to look at


@pytest.mark.slow
def test_what_went_in_and_out_is_known_by_dvcs_hash(trained: Path) -> None:
    content = dvc_hash(trained / "data/words")
    for name, digests in (("words", {"data/words": content}), ("left", {"data/words": content})):
        found = {i.dataset.name: i.dataset.digest for i in run_of(trained, name).inputs.dataset_inputs}
        assert digests.items() <= found.items()
    contexts = {i.tags[0].value for i in run_of(trained, "left").inputs.dataset_inputs}
    assert contexts == {"input", "output"}


@pytest.mark.slow
def test_models_are_external_and_each_has_a_hash_of_its_own(trained: Path) -> None:
    store, run = client(trained), run_of(trained, "words")
    models = {model.name: model for model in store.search_logged_models([run.info.experiment_id])}
    assert set(models) == {"words", "words-f16", "words-q4_0"}
    assert {model.source_run_id for model in models.values()} == {run.info.run_id}
    assert {name: model.model_type for name, model in models.items()} == {
        "words": "transformers",
        "words-f16": "gguf",
        "words-q4_0": "gguf",
    }
    for model in models.values():
        place = trained / model.tags["dvc.path"]
        assert model.tags["dvc.md5"] == dvc_hash(place)
        assert model.tags["dvc.output"] == "data/words"
    assert len({model.tags["dvc.md5"] for model in models.values()}) == 3


@pytest.mark.slow
def test_cached_stages_are_added_once_by_siblings_that_end_together(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.core.tracking.lineage import log_cached_stages
    from tasks.core.tracking.store import Store

    subprocess.run([sys.executable, "-m", "dvc", "repro", "words"], cwd=toy, check=True, capture_output=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{toy / '.textmill/mlflow.db'}")  # mlflow sets it for good
    store = Store(toy)
    graph.load_graph(toy)
    parent = store.create_parent("together", "test", {})
    start = threading.Barrier(3)

    def end() -> None:
        start.wait()
        log_cached_stages(store, parent, ["words"])

    threads = [threading.Thread(target=end) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    children = [run for run in runs(toy) if run.data.tags.get("mlflow.parentRunId") == parent]
    assert [run.info.run_name for run in children] == ["words (cached)"]


def test_metrics_and_plots_are_declared() -> None:
    """What `dvc metrics diff` and `dvc plots` show: the headline figures alone, and columns that the curves have."""
    declared = read_yaml(ROOT / "dvc.yaml")
    shown = {stage: node["metrics"] for stage, node in declared["stages"].items() if "metrics" in node}
    assert shown == {"report": [{"metrics/report.json": {"cache": False}}]}
    columns = {"pretrain": PRETRAINING_COLUMNS, "finetune": TUNING_COLUMNS, "prefer": REWARD_COLUMNS}
    for plot in declared["plots"]:
        ((_, settings),) = plot.items()
        assert settings["x"] == "step"
        for path, column in settings["y"].items():
            assert {"step", column} <= set(columns[path.split("/")[1]])


def test_the_model_beats_xz() -> None:
    evaluated = json.loads((ROOT / "metrics/report.json").read_text())
    assert evaluated["validation_bits_per_byte"] < evaluated["xz_bits_per_byte"]
