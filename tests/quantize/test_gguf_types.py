"""Recipes: sizes of files that others publish come out, and rows that do not fit take the type that llama.cpp gives them."""

import gguf
import pytest
from gguf import GGMLQuantizationType

from tasks.quantize.gguf_types import Mixture, shares

LLAMA_2_7B = {
    "attn_q": (4096, 4096),
    "attn_k": (4096, 4096),
    "attn_v": (4096, 4096),
    "attn_output": (4096, 4096),
    "ffn_gate": (11008, 4096),
    "ffn_up": (11008, 4096),
    "ffn_down": (4096, 11008),
}
PUBLISHED_GB = {"q3_k_m": 3.30, "q4_0": 3.83, "q4_k_m": 4.08, "q5_0": 4.65, "q5_k_m": 4.78, "q6_k": 5.53, "q8_0": 7.16}
"""Of the files llama-2-7b.<format>.gguf as TheBloke published them (huggingface.co/TheBloke/Llama-2-7B-GGUF), 1e9 bytes."""


def tensors() -> dict[str, tuple[int, int]]:
    blocks = {f"blk.{n}.{name}.weight": shape for n in range(32) for name, shape in LLAMA_2_7B.items()}
    return {**blocks, "token_embd.weight": (32000, 4096), "output.weight": (32000, 4096)}


@pytest.mark.parametrize("format_", PUBLISHED_GB)
def test_sizes_are_those_of_published_files(format_: str) -> None:
    mixture = Mixture(format_, layers=32, tied=False)
    size = 0.0
    for name, (rows, columns) in tensors().items():
        block, block_bytes = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[mixture.chosen(name, columns)]]
        size += rows * columns // block * block_bytes
    assert size / 1e9 == pytest.approx(PUBLISHED_GB[format_], abs=0.006)


def test_half_of_the_layers_have_more_bits() -> None:
    """llama.cpp's note on Q4_K_M: Q6_K for half of the values of attention and of the ways out of the feed-forward."""
    mixture = Mixture("q4_k_m", layers=32)
    for part in ("attn_v", "ffn_down"):
        kinds = [mixture.wanted(f"blk.{layer}.{part}.weight") for layer in range(32)]
        assert kinds.count("Q6_K") == kinds.count("Q4_K") == 16
    assert mixture.wanted("blk.9.attn_q.weight") == "Q4_K"


def test_rows_that_do_not_fit() -> None:
    mixture = Mixture("q4_k_m", layers=2)
    assert mixture.chosen("blk.0.ffn_up.weight", 512) == "Q4_K"
    assert mixture.chosen("blk.0.ffn_up.weight", 576) == "Q5_0"
    assert mixture.chosen("blk.0.ffn_up.weight", 72) == "F16"
    assert mixture.chosen("token_embd.weight", 512) == "Q6_K"
    assert mixture.chosen("token_embd.weight", 576) == "Q8_0"
    assert Mixture("q4_0", layers=2, tied=False).chosen("token_embd.weight", 576) == "Q4_0"
    assert Mixture("f16", layers=2).chosen("blk.0.ffn_up.weight", 72) == "F16"


def test_what_is_looked_up_or_chooses_stays_whole() -> None:
    for format_ in ("f16", "q8_0", "q2_k"):
        for name in ("position_embd.weight", "blk.1.ffn_gate_inp.weight"):
            assert Mixture(format_, layers=2).chosen(name, 512) == "F32"


def test_eight_experts_keep_attention_whole() -> None:
    mixture = Mixture("q4_k_m", layers=32, heads_per_kv=4, experts=8)
    kinds = [mixture.wanted(f"blk.9.{part}.weight") for part in ("attn_k", "attn_v", "attn_output", "ffn_down_exps")]
    assert kinds == ["Q8_0", "Q8_0", "Q5_K", "Q6_K"]


def test_shares_add_up() -> None:
    assert shares({"F32": 1, "Q4_K": 6, "Q6_K": 3}) == {"Q4_K": 0.6, "Q6_K": 0.3, "F32": 0.1}
    assert shares({}) == {}
