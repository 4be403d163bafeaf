"""Training that was killed, stopped or finds a damaged checkpoint goes on to the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.model.curves import read_curves
from tests.helpers.pretraining import (
    CONTEXT,
    files,
    make_inputs,
    pretrain,
    project,
    start_apart,
    steps_in_checkpoints,
    steps_written,
    wait_for,
)

SCHEDULES = {
    "context_schedule": [{"until_step": 11, "context_length": 8}],
    "batch_schedule": [
        {"until_step": 9, "global_batch_tokens": 3 * CONTEXT},
        {"until_step": 14, "global_batch_tokens": 5 * CONTEXT},
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"zero_stage": 2, **SCHEDULES}, {"optimizer": "normuon", "zero_stage": 3}],
    ids=["zero0", "zero2", "normuon3"],
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
@pytest.mark.skipif(
    not Path(sysconfig.get_path("include"), "Python.h").exists() or not shutil.which("g++"),
    reason="nothing to compile with",
)
def test_compiled_or_not_between_two_kills(tmp_path, inputs, monkeypatch):
    """Eager, killed, compiled, killed, eager: but for rounding the curve and the weights of a run that was always eager."""
    changes = {
        "steps": 600,
        "checkpoint_every": 20,
        "validation_every": 200,
        "optimizer": "normuon",
        "learning_rate": 0.003,
    }
    metrics, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, **changes)
    root = tmp_path / "switched"
    for compiled, beyond in ((False, 0), (True, 20)):
        begun = max([0, *steps_in_checkpoints(root)])
        process = start_apart(root, inputs, compile=compiled, **changes)
        wait_for(
            lambda begun=begun, beyond=beyond: max([0, *steps_in_checkpoints(root)]) > begun + beyond, timeout_s=600
        )
        process.kill()
        process.wait()
    assert begun + beyond < max(steps_in_checkpoints(root)) < 600
    again, switched = pretrain(root, inputs, monkeypatch, **changes)
    for alone, other in zip(read_curves(whole / "curves.csv"), read_curves(switched / "curves.csv"), strict=True):
        assert float(other["loss"]) == pytest.approx(float(alone["loss"]), abs=1e-4)
    assert again["validation_bits_per_byte"] == pytest.approx(metrics["validation_bits_per_byte"], abs=1e-4)
    weights = load_file(whole / "model.safetensors")
    for name, weight in load_file(switched / "model.safetensors").items():
        assert torch.allclose(weight, weights[name], atol=2e-3), name


@pytest.mark.slow
def test_one_rank_killed_then_all(tmp_path, inputs, monkeypatch):
    """Twice in one run, the first time one rank alone: its peer does not train on without it, and nothing is lost."""
    changes = {"steps": 40, "zero_stage": 1, "optimizer": "normuon", "checkpoint_every": 3}
    metrics, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, ranks=2, **changes)
    root = tmp_path / "killed"
    for reached, alone in ((5, True), (16, False)):
        process = start_apart(root, inputs, ranks=2, **changes)
        wait_for(lambda reached=reached: steps_written(root) >= reached)
        if alone:
            ranks = subprocess.run(
                ["pgrep", "-f", f"rank --config {root}"], capture_output=True, text=True
            ).stdout.split()
            os.kill(int(ranks[-1]), signal.SIGKILL)
            assert process.wait(120) != 0
        else:
            process.kill()
            process.wait()
    again, continued = pretrain(root, inputs, monkeypatch, ranks=2, **changes)
    assert again == metrics
    assert files(continued.root) == files(whole.root)


@pytest.mark.slow
def test_epochs_end_anywhere(tmp_path, monkeypatch):
    """Ten rows, four a step, three epochs: stopped at the border of two epochs and within one, the same run."""
    inputs = make_inputs(tmp_path, train_rows=10)
    changes = {"steps": 8, "global_batch_tokens": 4 * CONTEXT, "checkpoint_every": 1, "warmup_steps": 0}
    changes["decay_fraction"] = 0.375  # the checkpoint of step 5, 20 rows, stays
    root = tmp_path / "stopped"
    metrics, outputs = pretrain(root, inputs, monkeypatch, **changes)
    assert metrics["epochs"] == 3.2
    whole = files(outputs.root)
    for kept in (7, 5):  # as if killed right after these checkpoints
        for path in (outputs.work / "checkpoints").glob("step-*"):
            if int(path.name.removeprefix("step-")) > kept:
                shutil.rmtree(path)
        assert max(steps_in_checkpoints(root)) == kept
        again, continued = pretrain(root, inputs, monkeypatch, **changes)
        assert again == metrics
        assert files(continued.root) == whole


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
