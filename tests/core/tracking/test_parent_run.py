"""What stands on a pipeline's run in MLflow, the one that people open and compare: few numbers, curves, pages, an origin."""

import getpass
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.parallel.processes import process_identity, typed_command
from tasks.core.params import read_yaml
from tasks.core.tracking.parent_run import plotted_columns
from tasks.core.tracking.stage_run import StageRun
from tasks.core.tracking.store import Store
from tests.helpers.checkout import ROOT
from tests.helpers.running import client, parents, runs, set_params, wait_for

DVC = [sys.executable, "-m", "dvc"]
TRAINS = """(outputs / "curves.csv").write_text("step,loss,rate\\n1,4.5,0.1\\n2,3.5,\\n")
    (outputs / "index.html").write_text("<html>page</html>")
    (outputs / "samples.jsonl").write_text('{"prompt": "a", "reply": "b"}\\n{"prompt": "é", "mode": 1}\\n')
    outputs.timings["speed"] = 7.5
    (outputs / "half.txt")"""
PLOTS = """
plots:
  - training loss:
      x: step
      y: {data/words/curves.csv: loss}
  - other:
      x: length
      y: {data/words/curves.csv: rate}
"""


@pytest.fixture(scope="module")
def project(toy_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project with a first stage that trains, run by `dvc repro`, then changed and run in part."""
    project = Path(shutil.copytree(toy_template, tmp_path_factory.mktemp("parent") / "toy", symlinks=True))
    code, declared = project / "tasks/words/stage.py", project / "dvc.yaml"
    code.write_text(code.read_text().replace('(outputs / "half.txt")', TRAINS))
    shown = "[data/words, metrics/words.json]\n    meta: {shown: [index.html, samples.jsonl, speed]}"
    declared.write_text(declared.read_text().replace("[data/words, metrics/words.json]", shown) + PLOTS)
    for command in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "trains"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    subprocess.run([*DVC, "repro"], cwd=project, check=True, capture_output=True)
    set_params(project, "join", text="JJ")
    subprocess.run([*DVC, "repro"], cwd=project, check=True, capture_output=True)
    return project


@pytest.mark.slow
def test_numbers_are_those_declared_and_the_rest_is_on_the_stages(project: Path) -> None:
    """Also where a stage's outputs were made by an earlier run."""
    first, second = (parent.data.metrics for parent in parents(project))
    assert first == {"length": 5, "speed": 7.5, "training loss": 3.5}
    assert second == {"length": 6, "speed": 7.5, "training loss": 3.5}
    words = next(run for run in runs(project) if run.info.run_name == "words").data.metrics
    assert set(words) == {"length", "loss", "rate", "seconds", "speed"}


@pytest.mark.slow
def test_curves_of_two_parents_can_be_laid_over_each_other(project: Path) -> None:
    for parent in parents(project):
        points = client(project).get_metric_history(parent.info.run_id, "training loss")
        assert [(point.step, point.value) for point in points] == [(1, 4.5), (2, 3.5)]


@pytest.mark.slow
def test_pages_and_samples_are_artifacts_and_samples_a_table(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / '.textmill/mlflow.db'}")  # load_table's own
    for parent in parents(project):
        store, run_id = client(project), parent.info.run_id
        assert {item.path for item in store.list_artifacts(run_id)} == {"words.html", "samples.json"}
        page = Path(store.download_artifacts(run_id, "words.html", str(tmp_path)))
        assert page.read_text() == "<html>page</html>"
        table = store.load_table(parent.info.experiment_id, "samples.json", [run_id])
        assert table.fillna("").to_dict("records") == [
            {"prompt": "a", "reply": "b", "mode": ""},
            {"prompt": "é", "reply": "", "mode": 1},
        ]


@pytest.mark.slow
def test_origin_and_description(project: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=True)
    first, second = parents(project)
    assert first.info.user_id == getpass.getuser()
    for parent, dirty in ((first, "False"), (second, "True")):
        tags = parent.data.tags
        assert tags["mlflow.source.name"] == "dvc repro"
        assert tags["mlflow.source.git.commit"] == head.stdout.strip()
        assert tags["mlflow.source.git.branch"] in {"main", "master"}
        assert tags["mlflow.source.git.dirty"] == dirty
        note = tags["mlflow.note.content"]
        assert "`dvc repro`" in note
        assert head.stdout[:10] in note
        assert "| speed | 7.5 |" in note
        assert "training loss" not in note  # the last point of a curve is no result
        assert f"/runs/{parent.info.run_id}/artifacts/words.html" in note
    assert "words (cached)" in second.data.tags["mlflow.note.content"]
    assert "changes since" in second.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_a_failure_is_told_first(project: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(project, tmp_path / "broken", symlinks=True))
    set_params(broken, "left", fail=True)
    assert subprocess.run([*DVC, "repro"], cwd=broken, check=False, capture_output=True).returncode
    note = parents(broken)[-1].data.tags["mlflow.note.content"]
    assert "**left**: records.jsonl: line 3: broken, mend it" in note


@pytest.mark.slow
def test_what_trains_has_system_metrics_on_its_own_run(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{toy / '.textmill/mlflow.db'}")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    store = Store(toy)
    content = {
        "name": "words",
        "cmd": "c",
        "dependencies": {},
        "params": {},
        "facts": {},
        "process": process_identity(),
    }
    session = {"process": process_identity(), "command": "dvc repro", "experiment": None}
    run = StageRun(toy, lambda: store, content, session, None)
    run.begin()
    run.follow(str(tmp_path / "curves.csv"))
    run._looked -= 10
    assert not run.poll()  # nothing trains yet
    (tmp_path / "curves.csv").write_text("step,loss\n1,4.5\n")
    assert run.poll()
    cpu = "system/cpu_utilization_percentage"
    wait_for(lambda: cpu in store.client.get_run(run.run_id).data.metrics)
    run.fail("KILLED", "stopped")
    assert not run.kept["missed"]
    assert cpu not in store.client.get_run(run.kept["parent"]).data.metrics


def test_what_the_pipeline_shows_is_there_to_be_shown() -> None:
    """The curves that dvc.yaml draws are known by distinct names, none of which is that of a figure."""
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    curves = [name for stage in stages for name in plotted_columns(ROOT, stage).values()]
    assert {"loss", "validation bits per byte", "tuning loss"} <= set(curves)
    assert len(curves) == len(set(curves))
    figures = json.loads((ROOT / "metrics/report.json").read_text())
    assert not set(curves) & set(figures)
    assert len(figures) <= 16


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/x/python", "-m", "dvc", "repro", "pack"], "dvc repro pack"),
        (["/x/python", "/x/bin/dvc", "exp", "run", "-S", "a.b=c d"], "dvc exp run -S 'a.b=c d'"),
        (["/x/python", "-m", "tasks.words"], "python -m tasks.words"),
        (["/x/python", "/x/py.test", "-m", "slow"], "py.test -m slow"),
        (["/x/python"], "python"),
    ],
)
def test_a_command_is_told_as_it_is_typed(arguments: list[str], said: str) -> None:
    assert typed_command(arguments) == said
