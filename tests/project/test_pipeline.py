"""The whole pipeline on small real text: the same bytes from `dvc repro` and from a flow that is killed again and again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.core.errors import EXIT_USER_ERROR
from tasks.core.params import read_yaml
from tests.helpers.running import FLOW, PATIENCE_S, locked, processes_of, wait_for
from tests.helpers.small_project import make, small_project

KILLED_AT = ["clean", "pretrain", "finetune", "prefer", "quantize"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_project(tmp_path_factory.mktemp("template") / "project")


@pytest.fixture(scope="module")
def reproduced(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Brought up to date by `dvc repro`, one worker, one hash seed."""
    project = make(template, tmp_path_factory.mktemp("repro") / "project", workers=1)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=project,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return project


def kill_in(project: Path, stage: str, environment: dict[str, str]) -> None:
    """Start the flow and end it with SIGKILL in the middle of `stage`: at a checkpoint where it writes some."""
    process = subprocess.Popen(FLOW, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    work = project / ".textmill/work" / stage
    begun = (lambda: list(work.glob("*/*"))) if stage == "pretrain" else (project / f"data/.{stage}.partial").exists
    wait_for(lambda: begun() or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    wait_for(lambda: not processes_of(project))
    assert not (project / "data" / stage).exists()


@pytest.mark.slow
def test_what_the_artifacts_are_named_and_hold(reproduced: Path) -> None:
    metrics = {path.stem: json.loads(path.read_text()) for path in (reproduced / "metrics").glob("*.json")}
    assert metrics["dedup"]["removed"]["exact_duplicate"] >= 1
    assert metrics["clean"]["documents_in"] == metrics["clean"]["documents_out"] + sum(
        metrics["clean"]["removed"].values()
    )
    assert metrics["report"].keys() >= {"documents", "tokens", "tuned_bits_per_byte", "xz_bits_per_byte", "model_bytes"}
    shown = subprocess.run(
        [sys.executable, "-m", "dvc", "metrics", "show", "--json"], cwd=reproduced, capture_output=True, check=True
    )
    assert [*json.loads(shown.stdout).popitem()[1]["data"]] == ["metrics/report.json"]
    for stage in ("clean", "dedup", "decontaminate"):
        assert list((reproduced / f"data/{stage}/documents").glob("*.parquet"))
    from transformers import AutoModelForCausalLM

    for stage in ("pretrain", "finetune", "prefer"):
        model = AutoModelForCausalLM.from_pretrained(reproduced / "data" / stage)
        assert model.config.vocab_size == metrics["tokenizer"]["vocabulary_size"]
    assert {path.name for path in (reproduced / "data/quantize").iterdir() if path.is_dir()} >= {"f16", "q8_0"}
    page = (reproduced / "data/report/index.html").read_text()
    assert "<svg" in page
    page = page.replace('<script src="../../.textmill/run.js"></script>', "")  # what this machine adds, where it is
    assert not re.search(r'<script|<link|<img|<iframe|\bsrc="|href="(?!#)', page)


@pytest.mark.slow
def test_every_stage_is_tracked_without_prefect(reproduced: Path) -> None:
    from tests.helpers.running import runs

    found = runs(reproduced)
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    assert len(found) == 1 + len(read_yaml(reproduced / "dvc.yaml")["stages"])
    assert {run.info.status for run in found} == {"FINISHED"}
    assert parents[0].data.metrics["validation_bits_per_byte"] > 0


@pytest.mark.slow
def test_a_release_is_refused_made_promoted_and_taken_back(
    reproduced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gate wants a commit; a version leads back to it, is served by its alias, and is held against the champion."""
    from transformers import AutoModelForCausalLM

    from flows.release.__main__ import EXIT_REFUSED, main
    from tasks.serving.asked_model import asked_model

    project = Path(shutil.copytree(reproduced, tmp_path / "project", symlinks=True))
    monkeypatch.chdir(project)
    git = lambda *command: subprocess.run(["git", *command], check=True, capture_output=True, text=True).stdout  # noqa: E731

    def repro() -> None:
        done = subprocess.run([sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    git("add", "-A")  # metrics and the lock; committed below
    assert main([]) == EXIT_REFUSED
    said = capsys.readouterr().out
    assert "no   committed: differs from the commit: " in said
    assert "dvc.lock" in said
    assert main(["list"]) == 0
    assert "no version yet" in capsys.readouterr().out
    git("commit", "-qm", "a run")
    assert main([]) == 0
    folder = project / "releases/1"
    facts, commit = json.loads((folder / "release.json").read_text()), git("rev-parse", "HEAD").strip()
    assert facts["commit"] == commit
    card = (folder / "README.md").read_text()
    assert (project / "data/prefer/replies.jsonl").exists()  # what people wrote, which is nobody else's
    assert {path.suffix for path in (folder / "model").iterdir()} == {".json", ".jinja", ".safetensors"}
    assert commit in card
    assert "| texts | not known |" in card
    assert "<table>" in (folder / "card.html").read_text()
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert model.num_parameters() == json.loads((project / "metrics/pretrain.json").read_text())["parameters"]
    assert main(["promote"]) == 0
    assert main([]) == EXIT_USER_ERROR
    assert "version 1 (champion)" in capsys.readouterr().err
    assert asked_model("champion", project).read_bytes() == asked_model(None, project).read_bytes()
    assert "another model" not in capsys.readouterr().err

    params = (project / "params.yaml").read_text()
    changed = re.sub(r"(?m)^(quantize:\n(?: .*\n)*?  prompts: )4", r"\g<1>5", params)
    assert changed != params
    (project / "params.yaml").write_text(changed)
    repro()
    git("commit", "-qam", "measured at more prompts")
    (project / "release.yaml").write_text("at_least: {evaluate/validation_bits_per_byte: 99}\n")
    assert main([]) == EXIT_REFUSED
    assert "no   evaluate/validation_bits_per_byte at least 99" in capsys.readouterr().out
    (project / "release.yaml").write_text("licence: mit\nwatts: 50\n")
    assert main([]) == 0
    assert "+0.0000 (95%: +0.0000 to +0.0000)" in capsys.readouterr().out  # the same weights
    assert " kWh at 50" in (project / "releases/2/README.md").read_text()
    assert main(["promote", "2"]) == main(["rollback"]) == 0
    assert asked_model("champion", project) == folder / "gguf/model.gguf"
    assert "another model" in capsys.readouterr().err


@pytest.mark.slow
def test_a_flow_killed_again_and_again_gives_what_repro_gives(template: Path, reproduced: Path, tmp_path: Path) -> None:
    project = make(template, tmp_path / "project", workers=2)
    environment = {**os.environ, "PYTHONHASHSEED": "2", "PREFECT_HOME": str(tmp_path / "prefect")}
    for stage in KILLED_AT:
        kill_in(project, stage, environment)
    done = subprocess.run(FLOW, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bits per byte" in done.stdout.lower()
    ours, theirs = locked(project)["stages"], locked(reproduced)["stages"]
    assert ours.keys() == theirs.keys() == read_yaml(project / "dvc.yaml")["stages"].keys()
    for stage in theirs:
        assert ours[stage] == theirs[stage], f"{stage} differs"
    for path in (reproduced / "metrics").glob("*.json"):
        assert path.read_bytes() == (project / "metrics" / path.name).read_bytes()


@pytest.mark.slow
def test_two_versions_differ_by_what_changed(reproduced: Path, tmp_path: Path) -> None:
    """`python -m flows.diff`: the documents that a stricter filter takes out, with its reason; none is unaccounted for."""
    project = tmp_path / "project"
    shutil.copytree(reproduced, project, symlinks=True)
    run = lambda *command: subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)  # noqa: E731
    run("git", "add", "-A")
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "first")
    before = json.loads((project / "metrics/pack.json").read_text())
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("min_characters: 20 ", "min_characters: 2000 "))
    run(sys.executable, "-m", "dvc", "repro", "pack")
    shown = run(sys.executable, "-m", "flows.diff", "HEAD", "--html", "diff.html").stdout
    assert "clean: too_short" in shown
    assert "clean/removed/too_short" in shown
    assert "not in the sources" not in shown
    after = json.loads((project / "metrics/pack.json").read_text())
    gone = before["documents_out"] - after["documents_out"]
    assert f"Removed: {gone:,} documents" in shown
    assert (project / "diff.html").read_text().count("<code>") == gone
    unknown = subprocess.run(
        [sys.executable, "-m", "flows.diff", "nosuch"], cwd=project, capture_output=True, text=True, check=False
    )
    assert unknown.returncode == EXIT_USER_ERROR
    assert "nosuch" in unknown.stderr
    assert "Traceback" not in unknown.stderr
