"""Two models on the same items: the difference of their bits per byte, with the interval that drawing the items again gives.

Items are what is independent: documents, conversations. They are drawn in pairs, so that what makes an item hard for both
drops out (Efron & Tibshirani 1993, chapter 13: the percentile interval).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
CONFIDENCE = 0.95
VALUES_AT_ONCE = 1 << 22
"""Of drawn items, so that memory does not grow with them."""


@dataclass(frozen=True)
class Difference:
    """Bits per byte `before` and `after` over `items`, and after less before with its interval: below 0, after is better."""

    items: int
    before: float
    after: float
    difference: float
    low: float
    high: float


def paired_difference(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> Difference:
    """The difference of two tables [items, (nats, bytes)] of the same items, in the same order; the same each time."""
    rng, count = np.random.default_rng(0), len(before)
    at_once = max(1, VALUES_AT_ONCE // max(count, 1))
    drawn: list[npt.NDArray[np.float64]] = []
    for first in range(0, RESAMPLES, at_once):
        chosen = rng.integers(0, count, (min(at_once, RESAMPLES - first), count))
        drawn.append(_bits(after[chosen]) - _bits(before[chosen]))
    low, high = np.quantile(np.concatenate(drawn), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    was, now = float(_bits(before)), float(_bits(after))
    return Difference(count, *(round(float(value), 6) for value in (was, now, now - was, low, high)))


def standard_error(values: npt.ArrayLike) -> float | None:
    """Of the mean of independent values; None: of fewer than two it is not known."""
    array = np.asarray(values, float)
    return round(float(array.std(ddof=1) / math.sqrt(len(array))), 6) if len(array) > 1 else None


def _bits(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bits per byte over the items of [..., items, (nats, bytes)]."""
    sums = table.sum(-2)
    bits: npt.NDArray[np.float64] = sums[..., 0] / math.log(2) / sums[..., 1]
    return bits
