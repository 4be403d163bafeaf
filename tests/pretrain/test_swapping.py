"""Optimizer state in files (offload: nvme): the run is that of memory, and goes on from its checkpoints."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.model.curves import read_curves
from tests.helpers.pretraining import files, pretrain

LARGE = {"layers": 3, "hidden": 192, "kv_heads": 4, "intermediate": 512, "steps": 6, "checkpoint_every": 2}
"""A flat tensor of more than a megabyte: smaller ones stay in memory."""


def can_be_compiled() -> bool:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    return bool(shutil.which("g++") and shutil.which("ninja") and AsyncIOBuilder().is_compatible())


@pytest.mark.slow
def test_state_in_files_is_state_in_memory(tmp_path: Path, inputs, monkeypatch) -> None:
    """Weights, losses and norms; the moving average; another start from an earlier checkpoint; and cpu from one of nvme's."""
    if not can_be_compiled():
        pytest.skip("nothing that async_io is compiled with: libaio-dev, g++, ninja")
    changes = {**LARGE, "zero_stage": 3, "optimizer": "normuon", "ema_decay": 0.5, "learning_rate": 0.003, "clip": 0.5}
    changes["decay_fraction"] = 0.2
    _, memory = pretrain(tmp_path / "memory", inputs, monkeypatch, ranks=2, **changes)
    _, swapped = pretrain(tmp_path / "files", inputs, monkeypatch, ranks=2, offload="nvme", **changes)
    assert len(list((swapped.work / "swap").rglob("*.swp"))) >= 6  # weights, momentum and average of each rank
    weights = load_file(memory / "model.safetensors")
    for name, weight in load_file(swapped / "model.safetensors").items():
        assert torch.allclose(weight, weights[name], atol=1e-5), name
    for one, other in zip(read_curves(memory / "curves.csv"), read_curves(swapped / "curves.csv"), strict=True):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), abs=1e-5)
        assert float(one["gradient_norm"]) == pytest.approx(float(other["gradient_norm"]), rel=1e-5)
    whole = files(swapped.root)
    for offload in ("nvme", None):
        for path in (swapped.work / "checkpoints").glob("step-*"):
            if int(path.name.removeprefix("step-")) > 4:
                shutil.rmtree(path)
        _, again = pretrain(tmp_path / "files", inputs, monkeypatch, ranks=2, offload=offload, **changes)
        if offload:
            assert files(again.root) == whole
        for name, weight in load_file(again / "model.safetensors").items():
            assert torch.allclose(weight, weights[name], atol=1e-5), name
