"""The measurements of one GPU, tried without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import one_gpu
from tests.helpers.checkout import ROOT


def test_bf16_at_stage_0_is_refused():
    assert one_gpu.refusal()["refused"]


def test_what_is_cut_off_leaves_its_reason_and_what_was_measured_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(one_gpu, "LIMITS", [("124m:1", 0.2), ("1b:1", 100)])
    monkeypatch.setattr("sys.argv", ["one_gpu", "--out", str(tmp_path), "--seconds", "1"])
    one_gpu.main()
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["measurement"] for line in lines] == ["machine", "124m:1", "1b:1"]
    assert lines[1]["error"] == "stopped after 0 s"
    assert lines[2]["error"] == "not started: no time left"
    assert "1b:1: not started" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out


@pytest.mark.slow
def test_a_small_model_on_this_machine(tmp_path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "benchmarks/gpu/run.sh", str(tmp_path), "--tiny"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert not [line for line in lines if "error" in line], (tmp_path / "log.txt").read_text()
    assert [line["agrees"] for line in lines if "agrees" in line][:2] == [True, True]
    [speed] = [line for line in lines if "tokens_per_second" in line]
    assert 0 < speed["loader_share"] < 1
    assert 0 < speed["checkpoint_share"] < 1
    assert 0 < speed["mfu_of_measured_peak"] < 1
    assert speed["tokens_per_second"] * speed["step_seconds"] == pytest.approx(4 * 128)
