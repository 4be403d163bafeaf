"""Score histograms: how a score is distributed; counts in bins that depend on the score's name alone, so that shards can be added up."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

BINS = 20


def bin_edges(name: str) -> list[float]:
    """Borders of a histogram's bins: perplexity by powers of two, probabilities evenly."""
    return (
        [float(2**k) for k in range(BINS + 1)]
        if name == "perplexity"
        else [round(k / BINS, 2) for k in range(BINS + 1)]
    )


def count_bins(name: str, values: Sequence[float]) -> list[int]:
    """How many of the values of the score `name` are in each bin; those beyond the borders are in the outermost."""
    borders = bin_edges(name)
    counts, _ = np.histogram(np.clip(values, borders[0], borders[-1]), borders)
    return [int(number) for number in counts]


def merge_histograms(shards: Iterable[Mapping[str, list[int]]]) -> dict[str, dict[str, Any]]:
    """For each score `edges` and the `counts` of all shards together."""
    total: dict[str, dict[str, Any]] = {}
    for shard in shards:
        for name, counts in shard.items():
            before = total.setdefault(name, {"edges": bin_edges(name), "counts": [0] * BINS})
            before["counts"] = [a + b for a, b in zip(before["counts"], counts, strict=True)]
    return total
