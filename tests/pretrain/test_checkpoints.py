"""Which checkpoints stay, what they are good for, and what is found before a step: on tiny runs."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tasks.core.errors import UserError
from tasks.model.curves import read_curves
from tasks.pretrain.stability import Stability
from tests.helpers.pretraining import bits_per_byte, files, params, pretrain, steps_in_checkpoints


@pytest.mark.slow
def test_a_longer_run_takes_up_where_the_decay_of_a_shorter_one_began(tmp_path, inputs, monkeypatch, capfd):
    changes = {"optimizer": "normuon", "checkpoint_every": 8, "validation_every": 100, "average_checkpoints": 2}
    whole, alone = pretrain(tmp_path / "alone", inputs, monkeypatch, steps=24, **changes)
    changes["keep_stable"] = 1
    pretrain(tmp_path / "short", inputs, monkeypatch, steps=16, **changes)
    capfd.readouterr()
    metrics, longer = pretrain(tmp_path / "longer", inputs, monkeypatch, steps=16, continue_steps=8, **changes)
    assert "continuing from the checkpoint of step 8" in capfd.readouterr().err
    assert metrics == whole
    assert files(longer.root) == files(alone.root)
    further = {**changes, "average_checkpoints": 3}  # among them that of step 8, which it must write itself
    pretrain(tmp_path / "further", inputs, monkeypatch, steps=16, continue_steps=8, **further)
    assert "continuing" not in capfd.readouterr().err
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
    same = {"steps": 30, "validation_tokens": 1 << 20}
    still, averaged = (
        pretrain(tmp_path / str(stage), inputs, monkeypatch, ranks, ema_decay=decay, zero_stage=stage, **same)
        for decay, stage, ranks in ((0.0, 0, 1), (0.9, 3, 2))
    )
    assert averaged[0]["training_loss"] == pytest.approx(still[0]["training_loss"], abs=1e-5)
    exported = bits_per_byte(averaged[1].root, inputs)
    assert averaged[0]["validation_bits_per_byte"] == pytest.approx(exported, rel=1e-5)
    assert averaged[0]["validation_bits_per_byte"] != still[0]["validation_bits_per_byte"]
    weights = [load_file(outputs / "model.safetensors") for _, outputs in (still, averaged)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def mean_weights(folder: Path, steps: Sequence[int]) -> dict[str, torch.Tensor]:
    """The mean of the weights in the checkpoints of `steps`, flat, read without the code that wrote them."""
    flat: dict[str, list[torch.Tensor]] = {}
    for step in steps:
        pieces: dict[str, dict[int, torch.Tensor]] = {}
        for path in (folder / f"step-{step:09d}").glob("*.safetensors"):
            for entry, numbers in load_file(path).items():
                kind, name, start = entry.split("|")
                if kind == "weight":
                    pieces.setdefault(name, {})[int(start)] = numbers
        for name, parts in pieces.items():
            flat.setdefault(name, []).append(torch.cat([parts[start] for start in sorted(parts)]))
    return {name: torch.stack(found).double().mean(0).float() for name, found in flat.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("zero_stage", "ranks"), [(0, 1), (1, 1), (2, 2), (3, 2)])
def test_the_mean_of_the_last_checkpoints_is_what_is_exported(tmp_path, inputs, monkeypatch, zero_stage, ranks):
    """Validation is of it, a checkpoint where a run was stopped plays no part, and one that is damaged is made again."""
    changes = {"average_checkpoints": 3, "checkpoint_every": 2, "zero_stage": zero_stage, "optimizer": "normuon"}
    changes["validation_tokens"] = 1 << 20
    metrics, outputs = pretrain(tmp_path, inputs, monkeypatch, ranks, **changes)
    assert steps_in_checkpoints(tmp_path) == [6, 8, 10, 12]  # 6: where the decay begins
    whole, work = files(outputs.root), outputs.work / "checkpoints"
    expected = mean_weights(work, [8, 10, 12])
    exported = load_file(outputs / "model.safetensors")
    assert expected.keys() == exported.keys()
    for name, weight in exported.items():
        assert torch.equal(weight.flatten(), expected[name]), name
    assert metrics["validation_bits_per_byte"] == pytest.approx(bits_per_byte(outputs.root, inputs), rel=1e-5)
    shutil.rmtree(work / "step-000000012")
    if zero_stage == 2:
        (next((work / "step-000000008").glob("*.safetensors"))).write_bytes(b"damaged")
    again, continued = pretrain(tmp_path, inputs, monkeypatch, ranks, **changes)
    assert again == metrics
    assert files(continued.root) == whole


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
