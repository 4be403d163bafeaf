"""Training over several ranks: the same losses, other numbers of ranks, and whose failure is told."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tasks.model.curves import read_curves
from tasks.pretrain.rank import write_outcome
from tests.helpers.checkout import ROOT
from tests.helpers.pretraining import (
    CONTEXT,
    pretrain,
    start_apart,
    steps_written,
    wait_for,
)


@pytest.mark.slow
def test_how_a_run_is_split_changes_nothing_but_rounding(tmp_path, inputs, monkeypatch):
    """Stage, ranks, accumulation, offload, optimizer and recomputation in pairs: the weights after 12 steps, the losses, the norms."""
    reference: dict[str, tuple[dict, list[dict[str, str]], float]] = {}
    same = {
        "z_loss": 1e-2,
        "context_schedule": [{"until_step": 2, "context_length": 8}, {"until_step": 5, "context_length": 16}],
        "batch_schedule": [{"until_step": 3, "global_batch_tokens": 2 * CONTEXT}, {"until_step": 7, **SIX_ROWS}],
    }
    for optimizer in ("adamw", "normuon"):
        metrics, outputs = pretrain(tmp_path / optimizer, inputs, monkeypatch, optimizer=optimizer, **same)
        curves = read_curves(outputs / "curves.csv")
        reference[optimizer] = load_file(outputs / "model.safetensors"), curves, metrics["z_loss"]
    for number, (stage, ranks, micro_rows, offload, optimizer, recompute) in enumerate(PAIRWISE):
        changes = {"zero_stage": stage, "micro_batch_rows": micro_rows, "offload": offload, "optimizer": optimizer}
        changes["activation_checkpointing"] = recompute
        metrics, outputs = pretrain(tmp_path / str(number), inputs, monkeypatch, ranks=ranks, **changes, **same)
        weights, curves, z_loss = reference[optimizer]
        assert metrics["z_loss"] == pytest.approx(z_loss, abs=1e-4), changes
        for alone, other in zip(curves, read_curves(outputs / "curves.csv"), strict=True):
            assert float(other["loss"]) == pytest.approx(float(alone["loss"]), abs=1e-5), changes
            assert float(other["gradient_norm"]) == pytest.approx(float(alone["gradient_norm"]), rel=1e-4), changes
        for name, weight in load_file(outputs / "model.safetensors").items():
            assert torch.allclose(weight, weights[name], atol=2e-4), (changes, name)


SIX_ROWS = {"global_batch_tokens": 6 * CONTEXT}
PAIRWISE = [
    # stage, ranks, rows at a time (2, 6, then 8 in a step), offload, optimizer, blocks computed again: each legal pair once
    (0, 2, 1, None, "normuon", True),
    (1, 2, 4, None, "normuon", True),
    (1, 1, 1, "cpu", "adamw", False),
    (2, 1, 2, None, "normuon", False),
    (2, 2, 1, "cpu", "normuon", True),
    (2, 2, 4, None, "adamw", True),
    (3, 2, 1, None, "normuon", False),
    (3, 1, 2, "cpu", "normuon", True),
    (3, 2, 4, "cpu", "adamw", False),
]


@pytest.mark.slow
def test_other_ranks_and_another_stage_continue(tmp_path, inputs, monkeypatch):
    """Stopped, and gone on with other ranks and another ZeRO stage, twice: the losses of one that was never stopped."""
    batch = {"global_batch_tokens": 12 * CONTEXT, "optimizer": "normuon", "steps": 40, "checkpoint_every": 100}
    _, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, **batch)
    root = tmp_path / "moved"
    for ranks, stage, reached in ((2, 3, 6), (1, 0, 14), (2, 1, 22), (3, 2, 40)):
        if reached < 40:
            process = start_apart(root, inputs, ranks=ranks, zero_stage=stage, **batch)
            wait_for(lambda reached=reached: steps_written(root) >= reached)
            process.send_signal(signal.SIGTERM)
            assert process.wait(90) == 75
        else:
            _, moved = pretrain(root, inputs, monkeypatch, ranks=ranks, zero_stage=stage, **batch)
    for alone, other in zip(read_curves(whole / "curves.csv"), read_curves(moved / "curves.csv"), strict=True):
        assert float(other["loss"]) == pytest.approx(float(alone["loss"]), abs=1e-5)


def test_of_several_ranks_the_first_to_fail_tells_why(tmp_path):
    write_outcome(tmp_path, "3", {"status": "mistake", "message": "no space left"})
    write_outcome(tmp_path, "0", {"status": "failed", "message": "connection closed by peer"})
    assert json.loads((tmp_path / "outcome.json").read_text())["message"] == "no space left"


RANK = """
import json, os, sys
from pathlib import Path
work = Path(json.loads(Path(sys.argv[2]).read_text())["work"])
if os.environ["RANK"] == "0":
    (work / "outcome.json").write_text(json.dumps({"status": "finished"}))
"""
LAUNCH = """
from pathlib import Path
from tasks.pretrain.launching.launch import run_ranks
print(run_ranks("quick_rank", {}, work=Path.cwd(), ranks=2, device="cpu", threads=1)["status"])
"""


@pytest.mark.slow
def test_the_name_of_the_host_need_not_resolve(tmp_path):
    (tmp_path / "quick_rank.py").write_text(RANK)
    elsewhere = [
        "unshare",
        "--user",
        "--map-root-user",
        "--uts",
        "sh",
        "-c",
        'hostname nowhere.invalid && exec "$@"',
        "sh",
    ]
    if subprocess.run([*elsewhere, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no names of hosts can be changed here")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [*elsewhere, sys.executable, "-c", LAUNCH]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "finished\n"
