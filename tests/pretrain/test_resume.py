"""Training that was killed, stopped or finds a damaged checkpoint goes on to the same bytes."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.pretraining import (
    files,
    make_inputs,
    pretrain,
    project,
    start_apart,
    steps_written,
    wait_for,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"zero_stage": 2}, {"optimizer": "normuon", "zero_stage": 3}], ids=["zero0", "zero2", "normuon3"]
)
def test_killed_and_continued_is_never_killed(tmp_path, inputs, monkeypatch, changes):
    metrics, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, steps=60, **changes)
    root = tmp_path / "killed"
    process = start_apart(root, inputs, steps=60, **changes)
    wait_for(lambda: steps_written(root) >= 10)
    process.kill()
    process.wait()
    assert steps_written(root) < 60
    assert list((root / "work" / "checkpoints").glob("step-*"))
    again, continued = pretrain(root, inputs, monkeypatch, steps=60, **changes)
    assert again == metrics
    assert files(continued.root) == files(whole.root)


@pytest.mark.slow
def test_sigterm_saves_and_stops(tmp_path, inputs, monkeypatch):
    metrics, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, steps=100, checkpoint_every=1000)
    root = tmp_path / "stopped"
    process = start_apart(root, inputs, steps=100, checkpoint_every=1000)
    wait_for(lambda: steps_written(root) >= 5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    reached = steps_written(root)
    saved = max((root / "work" / "checkpoints").glob("step-*"))
    assert int(saved.name.removeprefix("step-")) == reached < 100
    again, continued = pretrain(root, inputs, monkeypatch, steps=100, checkpoint_every=1000)
    assert again == metrics
    assert files(continued.root) == files(whole.root)


@pytest.mark.slow
def test_stopped_while_validating(tmp_path, monkeypatch):
    inputs = make_inputs(tmp_path, validation_documents=3000)
    changes = {"steps": 6, "validation_tokens": 1 << 20, "checkpoint_every": 1000}
    metrics, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, **changes)
    root = tmp_path / "stopped"
    process = start_apart(root, inputs, **changes)
    wait_for(lambda: steps_written(root) >= 4)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    saved = max((root / "work" / "checkpoints").glob("step-*"))
    assert json.loads((saved / "manifest.json").read_text())["state"]["pending"]["step"] == 5
    again, continued = pretrain(root, inputs, monkeypatch, **changes)
    assert again == metrics
    assert files(continued.root) == files(whole.root)


@pytest.mark.slow
def test_damaged_checkpoint_is_passed_over(tmp_path, inputs, monkeypatch, capfd):
    metrics, whole = pretrain(tmp_path / "whole", inputs, monkeypatch)
    root = tmp_path / "damaged"
    _, first = pretrain(root, inputs, monkeypatch)
    newest = max((first.work / "checkpoints").glob("step-*"))
    weights = newest / "rank-00000.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    again, continued = pretrain(root, inputs, monkeypatch)
    logged = capfd.readouterr().err
    assert "step-000000012: rank-00000.safetensors was changed or damaged" in logged
    assert "continuing from the checkpoint of step 8" in logged
    assert again == metrics
    assert files(continued.root) == files(whole.root)


@pytest.mark.slow
def test_no_rank_outlives_the_stage(tmp_path, inputs):
    root = tmp_path / "orphans"
    project(root)
    process = start_apart(root, inputs, steps=100000)
    wait_for(lambda: steps_written(root) >= 2)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert children
    process.kill()
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children), timeout_s=120)
