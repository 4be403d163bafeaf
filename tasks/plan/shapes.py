"""Shapes that a plan chooses from: widths of whole heads, depths near one ratio of width to depth, and what the user has fixed."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tasks.architectures.shape import Shape

if TYPE_CHECKING:
    from tasks.plan.params import PlanParams

SHAPE_KEYS = ("layers", "hidden", "heads", "kv_heads", "intermediate")
DEPTHS = (0.7, 0.85, 1.0, 1.2, 1.45)
"""Depths that are tried, relative to width / aspect: loss depends on them weakly (Kaplan et al. 2020, section 3.1)."""
MULTIPLE = 32
"""The feed-forward width is a multiple of it."""
MOST_HEADS = 256
Given = Mapping[str, int | None]


def candidates(params: "PlanParams", given: Given, vocabulary_size: int, context_length: int) -> Iterator[Shape]:
    """Every shape that fits what is `given` (a key of `SHAPE_KEYS`, or None where it is to be planned)."""
    for hidden, heads in _widths(params, given):
        for layers in _depths(params, given.get("layers"), hidden):
            kv_heads = given.get("kv_heads") or _kv_heads(heads, params.queries_per_kv_head)
            if heads % kv_heads:
                continue
            intermediate = given.get("intermediate") or _rounded(params.mlp_ratio * hidden)
            yield Shape(layers, hidden, heads, kv_heads, intermediate, vocabulary_size, context_length)


def _widths(params: "PlanParams", given: Given) -> Iterator[tuple[int, int]]:
    """(hidden, heads); a width that is given has the heads nearest to `head_dim` that divide it."""
    hidden, heads = given.get("hidden"), given.get("heads")
    if hidden:
        fitting = [n for n in range(1, hidden // 2 + 1) if hidden % n == 0 and (hidden // n) % 2 == 0]
        if heads:
            fitting = [n for n in fitting if n == heads]
        elif kv_heads := given.get("kv_heads"):
            fitting = [n for n in fitting if n % kv_heads == 0]
        if fitting:
            yield hidden, min(fitting, key=lambda n: abs(hidden // n - params.head_dim))
        return
    for number in [heads] if heads else range(1, MOST_HEADS + 1):
        yield number * params.head_dim, number


def _depths(params: "PlanParams", layers: int | None, hidden: int) -> list[int]:
    if layers:
        return [layers]
    return sorted({max(1, round(factor * hidden / params.aspect)) for factor in DEPTHS})


def _kv_heads(heads: int, queries_per_kv_head: int) -> int:
    """The most that divide `heads` and are shared by at least `queries_per_kv_head` of them, as far as there are so many."""
    return max(n for n in range(1, heads + 1) if heads % n == 0 and (n == 1 or heads // n >= queries_per_kv_head))


def _rounded(width: float) -> int:
    return max(MULTIPLE, round(width / MULTIPLE) * MULTIPLE)


def distance_from_aspect(shape: Shape, aspect: float) -> float:
    """How far the ratio of width to depth is from `aspect`, for a choice among shapes that are as good."""
    ratio = shape.hidden / shape.layers / aspect
    return max(ratio, 1 / ratio)
