"""The served format: which of the exported GGUF formats is chatted with and served."""

from collections.abc import Iterable

SERVED_FORMATS = ("q8_0", "f16", "q6_k", "q5_k_m", "q5_0", "q4_k_m", "iq4_xs", "iq4_nl", "q4_0", "q3_k_m", "q2_k")
"""GGUF formats in the order in which one is taken: q8_0 answers as f16 does in half the size."""


def served_format(made: Iterable[str]) -> str | None:
    """The format that `make chat` and `make serve` take of those that `quantize` made; None without a GGUF."""
    made = set(made)
    return next((name for name in SERVED_FORMATS if name in made), None)
