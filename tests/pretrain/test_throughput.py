"""The share of the machine's arithmetic that training uses: against a peak measured on random data, never above 1."""

import logging
from typing import Any

import pytest
import torch

from tasks.pretrain import throughput
from tasks.pretrain.throughput import Throughput, peak_flops


class OneRank:
    """A group of this process alone."""

    device, is_rank_zero = torch.device("cpu"), True

    def all_reduce_sum(self, *values: float) -> list[float]:
        return list(values)


def measured(monkeypatch: pytest.MonkeyPatch, *peaks: float) -> dict[str, float]:
    """Timings of 10,000 tokens in 10 s at 6 FLOPs a token, with these peaks found before and after."""
    found = iter(peaks)
    monkeypatch.setattr(throughput, "peak_flops", lambda *_: next(found))
    group: Any = OneRank()
    counted = Throughput(group, "fp32")
    for _ in range(11):  # the first warms up
        counted.count(1000, 1.0, 6)
    return counted.timings()


@pytest.mark.parametrize("peaks", [(10_000.0, 8_000.0), (8_000.0, 10_000.0)])
def test_the_larger_peak_of_before_and_after_counts(
    monkeypatch: pytest.MonkeyPatch, peaks: tuple[float, float]
) -> None:
    assert measured(monkeypatch, *peaks) == {"tokens_per_second": 1000.0, "peak_flops": 10_000.0, "mfu": 0.6}


def test_a_share_above_one_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert measured(monkeypatch, 4_000.0, 5_000.0) == {"tokens_per_second": 1000.0, "peak_flops": 5_000.0}
    assert "MFU would be 1.20" in caplog.text


def test_the_peak_is_of_random_numbers_and_leaves_those_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SECONDS_OF_PRODUCTS", 0.0)
    multiplied: list[torch.Tensor] = []
    product = torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda *matrices: multiplied.extend(matrices) or product(*matrices))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert peak_flops(torch.device("cpu"), "fp32") > 0
    assert torch.equal(torch.rand(3), expected)
    assert len(multiplied) == 2
    assert all(0.9 < matrix.std() < 1.1 for matrix in multiplied)
