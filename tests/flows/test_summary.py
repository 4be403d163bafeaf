"""What is printed at the end: only what is up to date, with text and tokens by stage, and a reply to each prompt."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows import summary
from tasks.core.graph import load_graph
from tasks.core.paths import Outputs, write_json
from tasks.core.publish import made_at, publish, staging_folder
from tests.helpers.checkout import ROOT
from tests.helpers.reporting import encoder


def test_tokens_are_estimated_by_source_where_measured() -> None:
    tokenizer = {"sources": {"a": {"bytes_per_token": 2.0}}, "train": {"bytes_per_token": 5.0}}
    assert summary.estimated_tokens({"a": {"bytes_out": 100}, "b": {"bytes_out": 100}}, tokenizer) == 50 + 20


def curated(documents: int, size: int) -> dict[str, Any]:
    return {"documents_out": documents, "sources": {"web": {"bytes_out": size}}}


METRICS: dict[str, Any] = {
    "scrape": {"documents": 3000, "pages": 456, "bytes": 9_870_000},
    "clean": curated(3210, 7_650_000),
    "dedup": curated(2109, 5_430_000),
    "decontaminate": curated(2098, 5_320_000),
    "tokenizer": {"sources": {}, "train": {"bytes_per_token": 4.0}},
    "pack": {split: {"documents": 9, "tokens": 90} for split in ("train", "validation")},
    "evaluate": {
        "validation_bits_per_byte": 1.5,
        "validation_text": "all",
        "pretrain": {"all": {"bits_per_byte": 1.5}, "by_source": {}},
        "finetune": {"all": {"bits_per_byte": 1.6}, "by_source": {}},
        "xz": {"all": 2.5, "by_source": {}},
        "replies": {"pretrain": {"bits_per_byte": 2.4}, "finetune": {"bits_per_byte": 1.9}},
    },
    "quantize": {"reference": {"bits_per_byte": 1.7}, "formats": {"f16": {"bytes": 5, "bits_per_byte": 1.72}}},
    "report": {"documents": 2098},
}


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that has the metrics of every stage."""
    nodes = load_graph(ROOT)
    monkeypatch.setattr(summary, "load_graph", lambda _: nodes)
    for stage in nodes:
        write_json(tmp_path / "metrics" / f"{stage}.json", METRICS.get(stage, {}))
    return tmp_path


def test_documents_text_and_tokens_of_each_stage(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary.show_summary(measured, set())
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("dedup "))
    assert line.split() == ["dedup", "2,109", "5.43", "MB", "~", "1,357,500"]
    assert any("estimated by the tokenizer's bytes per token" in line for line in lines)


def test_each_number_stands_with_its_model_text_and_unit(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary.show_summary(measured, set())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    table = [line for line in lines if line[-3:] in (["2.400", "1.900", "–"], ["1.500", "1.600", "2.500"])]
    assert [line[0] for line in table] == ["replies", "all"]
    head = next(line for line in lines if line[:1] == ["held-out"])
    assert head[-4:] == ["base", "tuned", "xz", "-9e"]
    assert ["f16", "5", "bytes", "+0.02000", "–"] in lines
    assert any(" ".join(line).startswith("The model you chat with the tuned model as f16") for line in lines)


def test_what_an_encoder_was_asked_stands_beside_frequencies(
    measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("evaluate", "quantize"):
        write_json(measured / "metrics" / f"{stage}.json", encoder()[stage])
    summary.show_summary(measured, set())
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "held-out text: masked tokens right most frequent bits/byte frequencies" in lines
    assert "all documents 0.438 0.062 1.750 2.250" in lines
    assert not any("you chat with" in line or "continues" in line for line in lines)


def test_metrics_of_an_earlier_run_are_shown_as_such(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = list(load_graph(ROOT))
    outputs = Outputs(staging_folder(measured, "dedup"), measured / "work")
    publish(measured, "dedup", outputs, METRICS["dedup"])
    (measured / "metrics/evaluate.json").unlink()
    made = time.strftime("%Y-%m-%d", time.localtime(made_at(measured, "dedup")))
    summary.show_summary(measured, set(stages) - {"scrape", "clean"})
    said = capsys.readouterr().out
    assert "dedup              2,109  5.43 MB" in said
    assert "f16" in said
    assert "held-out text" not in said
    said = " ".join(said.split())
    assert f"Of an earlier run, before parameters, code or inputs changed dedup ({made} " in said
    assert "Not made yet evaluate: make run" in said
    assert "Next" not in said


def test_metrics_of_other_code_stop_no_summary(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(measured / "metrics/clean.json", {"documents": "of another form"})
    summary.show_summary(measured, {"clean"})
    assert "another version of the code" in capsys.readouterr().out
    with pytest.raises(KeyError):  # what is up to date has this form: a defect
        summary.show_summary(measured, set())


@pytest.mark.parametrize("samples", [0, 1, 2, 5])
def test_one_sampled_reply_to_each_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str], samples: int) -> None:
    rows = [{"prompt": prompt, "mode": "greedy", "reply": "greedy"} for prompt in "abcd"]
    rows += [{"prompt": p, "mode": "sampled", "reply": f"{p}{i}"} for p in "abcd" for i in range(samples)]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary._show_samples(tmp_path / "samples.jsonl", Console())
    said = capsys.readouterr().out.split()
    assert said == ([] if samples == 0 else [w for p in "abc" for w in ("you>", p, "textmill>", f"{p}0")])
