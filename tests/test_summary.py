"""What is printed at the end: only what is up to date, with text and tokens by stage, and a reply to each prompt."""

import json
from pathlib import Path

import pytest
from conftest import ROOT
from rich.console import Console

from flows import summary
from tasks.core.graph import load_graph


def test_tokens_are_estimated_by_source_where_measured() -> None:
    tokenizer = {"sources": {"a": {"bytes_per_token": 2.0}}, "train": {"bytes_per_token": 5.0}}
    assert summary.estimated_tokens({"a": {"bytes_out": 100}, "b": {"bytes_out": 100}}, tokenizer) == 50 + 20


def test_documents_text_and_tokens_of_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    summary.show(ROOT, set())
    lines = capsys.readouterr().out.splitlines()
    metrics = json.loads((ROOT / "metrics/dedup.json").read_text())
    line = next(line for line in lines if line.startswith("dedup "))
    assert f"{metrics['documents_out']:,}" in line
    assert "MB" in line
    assert "~ " in line
    assert any("estimated by the tokenizer's bytes per token" in line for line in lines)


def test_metrics_of_another_version_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """They are in git, so a fresh clone has them all before anything ran."""
    stages = list(load_graph(ROOT))
    summary.show(ROOT, set(stages) - {"scrape", "clean"})
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[:3]] == ["stage", "scrape", "clean"]
    assert "Bits per byte" not in said
    assert "f16" not in said
    assert "Not up to date  dedup" in said
    summary.show(ROOT, set(stages))
    assert capsys.readouterr().out.startswith("Not up to date  scrape")


@pytest.mark.parametrize("samples", [0, 1, 2, 5])
def test_one_sampled_reply_to_each_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str], samples: int) -> None:
    rows = [{"prompt": prompt, "mode": "greedy", "reply": "greedy"} for prompt in "abcd"]
    rows += [{"prompt": p, "mode": "sampled", "reply": f"{p}{i}"} for p in "abcd" for i in range(samples)]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary._show_samples(tmp_path / "samples.jsonl", Console())
    said = capsys.readouterr().out.split()
    assert said == ([] if samples == 0 else [w for p in "abc" for w in ("you>", p, "textmill>", f"{p}0")])
