"""The served format: which of the exported GGUF formats is chatted with and served."""

from collections.abc import Iterable

SERVED_FORMATS = ("q8_0", "f16", "q4_0")
"""GGUF formats in the order in which one is taken: q8_0 answers as f16 does in half the size."""


def served_format(made: Iterable[str]) -> str | None:
    """The format that `make chat` and `make serve` take of those that `quantize` made; None without a GGUF."""
    made = set(made)
    return next((name for name in SERVED_FORMATS if name in made), None)
