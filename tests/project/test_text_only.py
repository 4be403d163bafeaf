"""Text alone, or nearly alone, goes the whole way: to an evaluated, quantized model that continues texts."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tasks.core import graph
from tasks.model.model_pointer import is_pointer, resolve_model
from tests.helpers.small_project import make, small_project
from tests.helpers.tiny import conversation
from tests.helpers.whole import TINY, run_stages

SUBJECTS = [
    "Der Bäcker",
    "Die Nachbarin",
    "Das alte Boot",
    "Unser Hund",
    "Der Wind",
    "Eine Lehrerin",
    "Mein Großvater",
    "Die Straße",
]
VERBS = ["sieht", "vergisst", "sucht", "überquert", "bewundert", "findet", "braucht", "kennt", "verlässt", "begrüßt"]
OBJECTS = [
    "den Fluss",
    "die Brücke",
    "einen Brief",
    "das Frühstück",
    "die Kälte",
    "den Garten",
    "ein Lied",
    "die Stadt",
    "das Gebirge",
]
WHEN = [
    "am Morgen",
    "im Winter",
    "nach dem Regen",
    "ohne Eile",
    "seit Jahren",
    "am Sonntag",
    "vor dem Fest",
    "während der Ernte",
]


def german(number: int, sentences: int = 12) -> str:
    rng = random.Random(number)
    return " ".join(
        f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)} {rng.choice(WHEN)}."
        for _ in range(sentences)
    )


def write_german(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:03}.txt").write_text(f"Blatt {number}. {german(number)}\n")


def test_what_reads_the_tuned_model_declares_the_base_model_too() -> None:
    """data/finetune may hold a pointer to data/pretrain, and DVC brings back what is declared."""
    from tests.helpers.checkout import ROOT

    for name, node in graph.load_graph(ROOT).items():
        if "finetune" in node.inputs:
            assert "pretrain" in node.inputs, name
        if "prefer" in node.inputs:
            assert "finetune" in node.inputs, name


@pytest.fixture(scope="module")
def german_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 German texts and nothing else, brought up to date by `dvc repro`."""
    folder: Path = tmp_path_factory.mktemp("german")
    template = small_project(folder / "template")
    for path in (template / "texts").iterdir():
        path.unlink()
    write_german(template / "texts", 60)
    yaml = YAML()
    params = yaml.load((template / "params.yaml").read_text())
    params["clean"]["languages"] = ["de"]
    params["pretrain"]["steps"] = 20
    params["tokenizer"]["vocab_size"] = 320
    with (template / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    project = make(template, folder / "project", workers=1)
    done = run(project, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert said.count("a base model comes of them") == said.count("is the base model, data/pretrain") == 1
    return project


def run(project: Path, *module: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.run(
        [sys.executable, "-m", *module],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def metrics_of(project: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in (project / "metrics").glob("*.json")}


@pytest.mark.slow
def test_text_alone_gives_an_evaluated_and_quantized_base_model(german_project: Path) -> None:
    metrics = metrics_of(german_project)
    assert metrics["clean"]["languages"] == {"de": 60}
    assert metrics["instruct"]["documents"]["validation"] > 0
    assert metrics["evaluate"]["model"] == metrics["quantize"]["model"] == "base"
    assert metrics["evaluate"]["validation_text"] == "all"
    assert 0 < metrics["evaluate"]["validation_bits_per_byte"] < 8
    assert metrics["quantize"]["scored_text"] == "held-out documents"
    assert metrics["quantize"]["gate"]["max_distance"] <= 1e-3
    assert is_pointer(german_project / "data/finetune")
    assert resolve_model(german_project / "data/finetune") == german_project / "data/pretrain"
    assert not list((german_project / "data/finetune").glob("*.safetensors"))
    samples = [json.loads(line) for line in (german_project / "data/evaluate/samples.jsonl").read_text().splitlines()]
    assert samples[0]["prompt"].startswith("Blatt ")
    page = (german_project / "data/report/index.html").read_text()
    assert "base model" in page
    assert ">tuned" not in page


@pytest.mark.slow
def test_mlflow_has_the_models_that_there_are(german_project: Path) -> None:
    from mlflow import MlflowClient

    from tests.helpers.running import runs

    found = runs(german_project)
    assert {run.info.status for run in found} == {"FINISHED"}
    store = MlflowClient(f"sqlite:///{german_project / '.textmill/mlflow.db'}")
    names = {model.name for model in store.search_logged_models([found[0].info.experiment_id])}
    assert any(name.startswith("pretrain") for name in names)
    assert not any(name.startswith("finetune") for name in names)


@pytest.mark.slow
def test_chat_continues_a_text(german_project: Path) -> None:
    done = run(german_project, "tasks.serving.chat", "--max-tokens", "8", input="Der Bäcker sieht\nDie Straße\n")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3  # the end of the input is a line of its own
    assert all(line.strip() for line in done.stdout.splitlines()[:2])


@pytest.mark.slow
def test_the_summary_says_base_model(german_project: Path) -> None:
    said = run(german_project, "flows.summary").stdout
    assert "base model" in said
    assert "you>" not in said
    assert "text> Blatt" in said


@pytest.mark.slow
def test_a_few_conversations_and_nothing_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is tuned on three conversations; what is measured on training text says so, the rest is null with a reason."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "execution.yaml").write_text("workers: 1\nranks: 1\nthreads: 1\ndevice: cpu\n")
    write_german(tmp_path / "texts", 12)
    rows = [json.dumps({"messages": conversation(number)}) for number in range(3)]
    (tmp_path / "texts/talks.jsonl").write_text("\n".join(rows))
    metrics = run_stages(
        tmp_path,
        {
            "scrape": {"sources": [{"name": "texts", "kind": "files", "paths": ["texts/*"]}]},
            "clean": {"languages": None},
            "instruct": {"validation_fraction": 0},
        },
    )
    assert metrics["finetune"]["documents_out"] == 3
    assert metrics["finetune"]["steps"] == 2
    assert metrics["quantize"]["model"] == metrics["evaluate"]["model"] == "tuned"
    assert metrics["quantize"]["scored_text"] == "training documents"
    assert metrics["evaluate"]["validation_bits_per_byte"] is None
    assert metrics["evaluate"]["not_measured"]["validation_bits_per_byte"] == "no document is held out"


@pytest.mark.slow
def test_one_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows than a batch has else, none for validation: the plan makes the batch smaller."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "execution.yaml").write_text("workers: 1\nranks: 1\nthreads: 1\ndevice: cpu\n")
    (tmp_path / "one.txt").write_text(german(0, 6))
    metrics = run_stages(
        tmp_path,
        {
            "scrape": {"sources": [{"name": "one", "kind": "files", "paths": ["one.txt"]}]},
            "clean": {"languages": None},
            "tokenizer": {"vocab_size": 270},
            "pretrain": {**TINY["pretrain"], "global_batch_tokens": None},
        },
    )
    rows = metrics["pack"]["train"]["rows"]
    assert rows < 512 // 64  # a step's rows
    assert metrics["pack"]["validation"]["rows"] == 0
    assert metrics["quantize"]["model"] == "base"
    assert metrics["quantize"]["scored_text"] == "training documents"
    assert metrics["pretrain"]["validation_bits_per_byte"] is None
