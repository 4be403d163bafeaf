"""Which type each tensor takes in a format: llama.cpp's recipes (src/llama-quant.cpp of github.com/ggml-org/llama.cpp).

A format is a mixture. `q4_k_m` is Q4_K, with Q6_K for the head and in some layers for what suffers most: the values of
attention and the way out of the feed-forward. Where rows are no multiple of a type's block, another type takes its place.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

GgufFormat = Literal["f16", "q8_0", "q6_k", "q5_k_m", "q5_0", "q4_k_m", "q4_0", "iq4_xs", "iq4_nl", "q3_k_m", "q2_k"]
WEIGHTED_FORMATS = tuple(name for name in get_args(GgufFormat) if name not in ("f16", "q8_0"))
"""Those that heed which columns matter."""
BASE_TYPES = {
    "q6_k": "Q6_K",
    "q5_k_m": "Q5_K",
    "q4_k_m": "Q4_K",
    "iq4_xs": "IQ4_XS",
    "iq4_nl": "IQ4_NL",
    "q3_k_m": "Q3_K",
    "q2_k": "Q2_K",
}
"""Of the formats whose name is not that of their type."""
FALLBACKS = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "IQ4_XS": "IQ4_NL",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
"""Types with blocks of 256 values, and those with blocks of 32 that take their place."""
K_BLOCK, BLOCK = 256, 32
PART = re.compile(r"(?:blk\.(\d+)\.)?(.+)\.weight")
NEVER_QUANTIZED = ("position_embd", "ffn_gate_inp")
"""Small matrices that are looked up or choose: positions, and a router of experts."""


@dataclass(frozen=True)
class Mixture:
    """A format for one model: its layers, how many heads share keys and values, experts, whether its head is the embedding's
    matrix, and whether it is known which columns matter.
    """

    format: str
    layers: int
    heads_per_kv: float = 1.0
    experts: int = 0
    tied: bool = True
    weighted: bool = False

    @property
    def base(self) -> str:
        """The type of all that has no rule."""
        return BASE_TYPES.get(self.format, self.format.upper())

    def wanted(self, name: str) -> str:
        """The type of the matrix `name` (llama.cpp's name) if its rows fit."""
        matched = PART.fullmatch(name)
        layer, part = (int(matched[1] or 0), matched[2].removesuffix("_exps")) if matched else (0, "")
        if matched is None or part in NEVER_QUANTIZED or self.format == "f32":
            return "F32"
        if self.format == "f16":
            return "F16"
        if part == "output" or (part == "token_embd" and self.tied):
            return "Q8_0" if self.base == "Q8_0" else "Q6_K"
        if part in ("attn_v", "attn_qkv"):
            return self._values(layer)
        if part == "attn_k" and self.experts == 8:
            return "Q8_0"
        if part == "ffn_down":
            return self._down(layer)
        if part == "attn_output":
            return self._attention_output()
        return self.base

    def chosen(self, name: str, columns: int) -> str:
        """The type that the matrix really takes."""
        kind = self.wanted(name)
        if kind in FALLBACKS and columns % K_BLOCK:
            kind = FALLBACKS[kind]
        return "F16" if kind not in ("F32", "F16") and columns % BLOCK else kind

    def _more_bits(self, layer: int) -> bool:
        eighth = self.layers // 8
        return layer < eighth or layer >= 7 * self.layers // 8 or (layer - eighth) % 3 == 2

    def _values(self, layer: int) -> str:
        if self.experts == 8:
            return "Q8_0"
        grouped = self.heads_per_kv >= 4
        if self.format == "q2_k":
            return "Q4_K" if grouped else "Q3_K"
        if self.format == "q3_k_m":
            return "Q5_K" if layer < 2 else "Q4_K"
        if self.format in ("iq4_nl", "iq4_xs") and grouped:
            return "Q5_K"
        return "Q6_K" if self.format in ("q4_k_m", "q5_k_m") and self._more_bits(layer) else self.base

    def _down(self, layer: int) -> str:
        if self.format == "q2_k":
            return "Q3_K"
        if self.format == "q3_k_m":
            return "Q5_K" if layer < self.layers // 16 else "Q4_K"
        if self.format in ("q4_k_m", "q5_k_m") and self._more_bits(layer):
            return "Q6_K"
        if layer < self.layers // 8:
            if self.format in ("iq4_nl", "iq4_xs") and not self.weighted:
                return "Q5_K"
            if self.format in ("q4_0", "q5_0") and self.weighted:
                return {"q4_0": "Q4_1", "q5_0": "Q5_1"}[self.format]
        return self.base

    def _attention_output(self) -> str:
        if self.experts == 8:
            return "Q5_K" if self.format in ("q2_k", "q3_k_m", "q4_k_m", "iq4_nl", "iq4_xs") else self.base
        return {"q2_k": "Q3_K", "q3_k_m": "Q4_K"}.get(self.format, self.base)


def shares(weights: dict[str, int]) -> dict[str, float]:
    """Of weights by type, each type's share, the largest first."""
    total = math.fsum(weights.values()) or 1.0
    return {
        kind: round(number / total, 4) for kind, number in sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    }
