"""The whole pipeline on small real text: the same bytes from `dvc repro` and from a flow that is killed again and again."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tasks.core.errors import EXIT_USER_ERROR
from tasks.core.params import read_yaml
from tasks.scrape.package_conversations import read as read_package
from tests.helpers.checkout import ROOT
from tests.helpers.running import FLOW, PATIENCE_S, locked, processes_of, wait_for

SMALL: dict[str, dict[str, Any]] = {
    "scrape": {"sources": [{"name": "texts", "kind": "files", "paths": ["texts/*"]}]},
    "instruct": {"validation_fraction": 0.1},
    "tokenizer": {"vocab_size": 512},
    "pack": {"context_length": 128},
    "pretrain": {
        "layers": 2,
        "hidden": 64,
        "heads": 2,
        "intermediate": 128,
        "steps": 60,
        "global_batch_tokens": 1024,
        "warmup_steps": 5,
        "validation_every": 20,
        "checkpoint_every": 10,
    },
    "finetune": {"max_steps": 6, "batch": 4, "micro_batch": 4, "max_length": 128},
    "quantize": {"prompts": 4, "max_bytes": 2000, "formats": ["f16", "q8_0", "torchao-int8"]},
    "evaluate": {"max_bytes": 4000, "max_questions": 2, "max_new_tokens": 8, "prompts": ["Hello!"], "samples": 1},
}
KILLED_AT = ["clean", "pretrain", "finetune", "quantize"]


def write_texts(folder: Path) -> None:
    """300 conversations, the documentation of standard modules as text and HTML, a duplicate, an address, mojibake."""
    folder.mkdir()
    conversations = [
        item.meta["messages"] for item, _ in zip(read_package("chitchat-dataset"), range(300), strict=False)
    ]
    rows = [json.dumps({"messages": messages}) for messages in conversations]
    (folder / "conversations.jsonl").write_text("\n".join([*rows, rows[0]]) + "\n")
    for name in ("argparse", "email", "heapq", "random", "statistics", "threading", "decimal", "string"):
        module = __import__(name)
        members = [
            value for _, value in inspect.getmembers(module) if inspect.isclass(value) or inspect.isroutine(value)
        ]
        text = "\n\n".join(filter(None, (inspect.getdoc(value) for value in [module, *members])))
        (folder / f"{name}.txt").write_text(f"{text}\n\nAsk ada@example.org about it: itâ€™s all thereâ€¦\n")
        (folder / f"{name}.html").write_text(
            f"<html><body><nav>Home</nav><pre>{name}: {text[:3000]}</pre></body></html>"
        )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_project(tmp_path_factory.mktemp("template") / "project")


def small_project(folder: Path) -> Path:
    """A checkout of the project with its own text and small parameters."""
    folder.mkdir()
    for name in (
        "tasks",
        "flows",
        ".dvc",
        "dvc.yaml",
        "params.yaml",
        "execution.yaml",
        ".gitignore",
        ".dvcignore",
        "evaluation",
    ):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp"))
        else:
            shutil.copy(source, target)
    yaml = YAML()
    params = yaml.load((folder / "params.yaml").read_text())
    for stage, changes in SMALL.items():
        params[stage].update(changes)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    write_texts(folder / "texts")
    run = lambda *command: subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: E731
    run("git", "init", "-q")
    run("git", "add", "-A")
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "small")
    return folder


def make(template: Path, folder: Path, workers: int) -> Path:
    shutil.copytree(template, folder)
    (folder / "execution.yaml").write_text(f"workers: {workers}\nranks: 1\nthreads: 1\ndevice: cpu\n")
    return folder


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

    for stage in ("pretrain", "finetune"):
        model = AutoModelForCausalLM.from_pretrained(reproduced / "data" / stage)
        assert model.config.vocab_size == metrics["tokenizer"]["vocabulary_size"]
    assert {path.name for path in (reproduced / "data/quantize").iterdir() if path.is_dir()} >= {"f16", "q8_0"}
    page = (reproduced / "data/report/index.html").read_text()
    assert "<svg" in page
    page = page.replace('<script src="../../.textmill/run.js"></script>', "")  # what this machine adds, where it is
    assert not re.search(r'<script|<link|<img|<iframe|\bsrc="|href="(?!#)', page)


@pytest.mark.slow
def test_every_stage_is_tracked_without_prefect(reproduced: Path) -> None:
    from tests.core.test_stage_contract import runs

    found = runs(reproduced)
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    assert len(found) == 1 + len(read_yaml(reproduced / "dvc.yaml")["stages"])
    assert {run.info.status for run in found} == {"FINISHED"}
    assert parents[0].data.metrics["validation_bits_per_byte"] > 0


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
