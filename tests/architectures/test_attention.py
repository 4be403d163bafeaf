"""Attention: flash attention's documents are those of the mask, and what cannot be had is refused by name."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from tasks.architectures.building import attention
from tasks.architectures.building.attention import document_starts, flash_obstacle, set_attention
from tasks.architectures.building.isolation import isolating_arguments
from tasks.architectures.families.table import FAMILIES
from tasks.core.errors import UserError
from tests.helpers.architectures import packed, tiny

BY_POSITIONS = [name for name, family in FAMILIES.items() if family.isolation == "positions"]
WINDOWED = [name for name in BY_POSITIONS if "sliding_window" in FAMILIES[name].choices]


def attend_apart(query, key, value, starts, _, longest, most, *, scale, window_size, enable_gqa=False):
    """What the kernel for GPUs is documented to give, one document after the other."""
    assert longest == most
    left, right = window_size
    assert right == 0
    whole = torch.empty_like(query)
    for start, end in pairwise(starts.tolist()):
        parts = [part[start:end].transpose(0, 1)[None] for part in (query, key, value)]
        back = torch.arange(end - start)[:, None] - torch.arange(end - start)[None]
        seen = (back >= 0) & ((back <= left) if left >= 0 else True)
        found = functional.scaled_dot_product_attention(*parts, attn_mask=seen, scale=scale, enable_gqa=enable_gqa)
        whole[start:end] = found[0].transpose(0, 1)
    return whole


@pytest.mark.parametrize(
    ("name", "choices"),
    [(name, {}) for name in BY_POSITIONS] + [(name, {"sliding_window": 5}) for name in WINDOWED],
)
def test_flash_attention_gives_what_the_mask_gives(name, choices, monkeypatch) -> None:
    wide = {"init_std": 0.2} if "init_std" in FAMILIES[name].choices else {}
    model = tiny(name, layers=3, **wide, **choices).eval()
    batch = packed([11, 2, 12, 4], np.random.default_rng(0))
    batch = type(batch)(*(np.repeat(array, 2, 0) for array in (batch.input_ids, batch.position_ids, batch.labels)))
    tokens, positions = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.position_ids)
    starts = torch.from_numpy(document_starts(batch.position_ids))
    assert starts.tolist()[:5] == [0, 11, 13, 25, 29]
    with torch.no_grad():
        masked = model(
            input_ids=tokens, **isolating_arguments(FAMILIES[name], model.config, positions, torch.float32, starts)
        )
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attend_apart)
        monkeypatch.setattr(attention, "flash_obstacle", lambda *_: None)
        assert set_attention(model, FAMILIES[name], None, "cuda", "bf16", 0.0) == "flash"
        arguments = isolating_arguments(FAMILIES[name], model.config, positions, torch.float32, starts)
        assert arguments["document_starts"].dtype == torch.int32
        flash = model(input_ids=tokens, **arguments)
    assert (flash.logits - masked.logits).abs().max() < 1e-4 * masked.logits.abs().max()
    assert "varlen" not in model.config.to_json_string(use_diff=False)  # what is exported does not depend on it


@pytest.mark.parametrize(
    ("name", "wanted", "device", "precision", "dropout", "says"),
    [
        ("llama", "flash", "cpu", "bf16", 0.0, "for a GPU, in bf16"),
        ("llama", "flash", "cuda", "fp32", 0.0, "for a GPU, in bf16"),
        ("llama", "flash", "cuda", "bf16", 0.1, "no dropout"),
        ("opt", "flash", "cuda", "bf16", 0.0, "opt does not keep"),
        ("llama", "flex", "cpu", "fp32", 0.0, "on a GPU alone"),
        ("bert", "flex", "cuda", "bf16", 0.0, "does not take"),
    ],
)
def test_attention_that_cannot_be_had_is_refused(name, wanted, device, precision, dropout, says) -> None:
    with pytest.raises(UserError, match=f"pretrain.attention: {wanted}: .*{says}"):
        set_attention(tiny(name), FAMILIES[name], wanted, device, precision, dropout)


def test_null_takes_flash_where_it_can_be_had() -> None:
    llama = FAMILIES["llama"]
    narrow, wide = (SimpleNamespace(config=SimpleNamespace(head_dim=width)) for width in (20, 64))
    assert flash_obstacle(wide, llama, "cuda", "bf16", 0.0) is None
    assert "multiple of 8" in str(flash_obstacle(narrow, llama, "cuda", "bf16", 0.0))
    model = tiny("llama")
    assert set_attention(model, llama, None, "cpu", "fp32", 0.0) is None
    assert model.config._attn_implementation == "sdpa"
    assert set_attention(model, llama, "eager", "cpu", "fp32", 0.0) == "eager"
