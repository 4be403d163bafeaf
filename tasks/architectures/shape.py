"""The shape of a model: the numbers that its size, arithmetic and memory follow from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Sizes in the field's terms; `kv_heads` heads of keys and values are shared by `heads` of queries (GQA)."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary_size: int
    context_length: int
