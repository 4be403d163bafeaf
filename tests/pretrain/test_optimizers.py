"""Learning rates by step, and Muon against PyTorch's own."""

import pytest
import torch

from tasks.pretrain.optimizers import Muon, learning_rate
from tests.helpers.pretraining import (
    params,
)


def test_schedules():
    wsd = [learning_rate(params(steps=10, warmup_steps=2, decay_fraction=0.4, learning_rate=1.0), s) for s in range(10)]
    assert wsd == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    cosine = [learning_rate(params(steps=4, warmup_steps=0, schedule="cosine", learning_rate=1.0), s) for s in range(4)]
    assert cosine == pytest.approx([1, 0.8535534, 0.5, 0.1464466])


def test_muon_is_torchs():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 24 * 10).sin().reshape(24, 10).clone()) for _ in range(2))
    optimizers = Muon([ours], 0.01, 0.1), torch.optim.Muon([theirs], 0.01, 0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        ours.grad = torch.randn(24, 10)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=3e-3)  # theirs computes in bf16
