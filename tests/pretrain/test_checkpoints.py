"""Which checkpoints stay, what they are good for, and what is found before a step: on tiny runs."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tasks.core.errors import UserError
from tasks.model.curves import read_curves
from tasks.pretrain.stability import Stability
from tests.helpers.pretraining import files, params, pretrain, steps_in_checkpoints


@pytest.mark.slow
def test_a_longer_run_takes_up_where_the_decay_of_a_shorter_one_began(tmp_path, inputs, monkeypatch, capfd):
    changes = {"optimizer": "normuon", "checkpoint_every": 100, "validation_every": 100}
    whole, alone = pretrain(tmp_path / "alone", inputs, monkeypatch, steps=24, **changes)
    changes["keep_stable"] = 1
    pretrain(tmp_path / "short", inputs, monkeypatch, steps=16, **changes)
    capfd.readouterr()
    metrics, longer = pretrain(tmp_path / "longer", inputs, monkeypatch, steps=16, continue_steps=8, **changes)
    assert "continuing from the checkpoint of step 8" in capfd.readouterr().err
    assert metrics == whole
    assert files(longer.root) == files(alone.root)
    pretrain(tmp_path / "other", inputs, monkeypatch, steps=16, **{**changes, "seed": 1})
    assert "continuing" not in capfd.readouterr().err


@pytest.mark.slow
def test_the_last_the_best_and_the_stable_stay(tmp_path, inputs, monkeypatch):
    """A rate that is far too high at the end makes an early checkpoint the best one, and that is exported."""
    changes = {"steps": 24, "checkpoint_every": 2, "validation_every": 2, "schedule": "wsd", "decay_fraction": 0.25}
    metrics, outputs = pretrain(
        tmp_path,
        inputs,
        monkeypatch,
        learning_rate=100.0,
        warmup_steps=18,
        on_not_finite="skip",
        export="best",
        **changes,
    )
    measured = {
        int(row["step"]): float(row["validation_bits_per_byte"])
        for row in read_curves(outputs / "curves.csv")
        if row["validation_bits_per_byte"]
    }
    best = min(measured, key=lambda step: measured[step])
    assert best < 20
    assert steps_in_checkpoints(tmp_path) == sorted({best, 18, 22, 24})
    assert metrics["validation_bits_per_byte"] == pytest.approx(measured[best], rel=1e-5)


@pytest.mark.slow
def test_the_moving_average_is_what_is_exported(tmp_path, inputs, monkeypatch):
    still, averaged = (
        pretrain(tmp_path / str(decay), inputs, monkeypatch, steps=30, ema_decay=decay) for decay in (0.0, 0.9)
    )
    assert averaged[0]["training_loss"] == still[0]["training_loss"]
    assert averaged[0]["validation_bits_per_byte"] != still[0]["validation_bits_per_byte"]
    weights = [load_file(outputs / "model.safetensors") for _, outputs in (still, averaged)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_what_is_not_finite_is_found_before_the_step(tmp_path, inputs, monkeypatch, zero_stage):
    """A gradient that overflows leaves the last checkpoint's weights, whatever the stage; skipped, training goes on."""
    broken = {"zero_stage": zero_stage, "learning_rate": 1e30, "warmup_steps": 0, "clip": 0.0, "optimizer": "adamw"}
    with pytest.raises(UserError, match=r"(loss|norm) is (nan|inf) at step \d+: .*documents.*learning_rate"):
        pretrain(tmp_path / "stop", inputs, monkeypatch, **broken)
    metrics, _ = pretrain(tmp_path / "skip", inputs, monkeypatch, on_not_finite="skip", steps=4, **broken)
    assert metrics["skipped_steps"] >= 2


def stability(**changes) -> Stability:
    return Stability(params(**changes))


def test_a_spike_lies_six_sigmas_above_the_last_steps():
    generator = np.random.default_rng(0)
    watched = stability(on_spike="skip")
    for step in range(200):
        assert not watched.skips(step, 3 + 0.1 * generator.standard_normal(), 1.0 + 0.1 * generator.random(), str)
    assert not watched.skips(200, 3.5, 1.0, str)
    assert watched.skips(201, 4.5, 1.0, lambda: "its documents are a, b")
    assert watched.skips(202, 3.0, 9.0, str)
    assert (watched.spikes, watched.skipped) == (2, 2)
    restored = stability(on_spike="skip")
    restored.restore(watched.state())
    assert restored.state() == watched.state()


def test_few_steps_make_no_spike():
    watched = stability(on_spike="skip")
    assert not any(watched.skips(step, 10.0**step, 1.0, str) for step in range(20))


def test_the_documents_of_a_broken_step_are_named():
    with pytest.raises(UserError, match=r"loss is nan at step 7: .*\(its documents are x\).*on_not_finite: skip"):
        stability().skips(7, float("nan"), 1.0, lambda: "its documents are x")
