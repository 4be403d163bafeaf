"""Differences are paired, nobody wins inside the noise, and intervals hold what they say."""

import numpy as np
import pytest

from tasks.model import paired_difference as differences
from tasks.model.paired_difference import paired_difference, standard_error


def items(seed: int, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(50, 150, count), rng.integers(80, 120, count)], 1)


def test_the_same_items_twice_differ_by_nothing() -> None:
    same = paired_difference(items(0), items(0))
    assert (same.items, same.difference, same.low, same.high) == (200, 0, 0, 0)
    table = items(0)
    assert same.before == pytest.approx(table[:, 0].sum() / table[:, 1].sum() / np.log(2), abs=1e-6)


def test_what_is_worse_on_every_item_is_worse_and_what_is_worse_on_some_is_not() -> None:
    """A hundredth more nats everywhere is beyond the noise of the items, which are paired; a coin's throw is not."""
    before = items(0)
    worse = paired_difference(before, before * [1.01, 1])
    assert worse.difference == pytest.approx(0.01 * worse.before, rel=1e-4)
    assert 0 < worse.low < worse.difference < worse.high
    sign = np.random.default_rng(3).choice([0.8, 1.2], 200)
    noise = paired_difference(before, before * np.stack([sign, np.ones(200)], 1))
    assert noise.low < 0 < noise.high


def test_the_interval_holds_what_it_says() -> None:
    """Of pairs that differ by nothing in truth, about one in twenty has an interval without 0."""
    missed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        factors = np.stack([rng.normal(1, 0.05, (2, 80)), np.ones((2, 80))], -1)
        found = paired_difference(items(seed, 80) * factors[0], items(seed, 80) * factors[1])
        missed += not found.low <= 0 <= found.high
    assert missed <= 9  # of 60 at 5%: more has a chance of 1 in 1,000


def test_of_equal_sizes_it_is_the_normal_interval() -> None:
    rng = np.random.default_rng(5)
    before = np.stack([rng.normal(100, 10, 400), np.full(400, 100.0)], 1)
    after = before + np.stack([rng.normal(1, 4, 400), np.zeros(400)], 1)
    found = paired_difference(before, after)
    per_item = (after - before)[:, 0] / 100 / np.log(2)
    half = 1.96 * per_item.std(ddof=1) / 20
    assert (found.low, found.high) == pytest.approx((per_item.mean() - half, per_item.mean() + half), abs=0.15 * half)


def test_memory_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = paired_difference(items(0), items(1))
    monkeypatch.setattr(differences, "VALUES_AT_ONCE", 5000)
    assert paired_difference(items(0), items(1)) == whole


def test_standard_errors() -> None:
    assert standard_error([0, 1, 0, 1]) == pytest.approx(np.sqrt(1 / 3) / 2, abs=1e-6)
    assert standard_error([1]) is None
