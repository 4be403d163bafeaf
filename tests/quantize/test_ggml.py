"""ggml's quantization by way of ctypes: the bytes are those of gguf's own, and importance moves errors to where they cost little."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from tasks.quantize.ggml import quantize_rows
from tasks.quantize.gguf_types import FALLBACKS

K_TYPES = ("Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K")


def matrix(rows: int = 24, columns: int = 512) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32) * 0.05


def error(
    values: np.ndarray, kind: str, importance: np.ndarray | None = None, weights: float | np.ndarray = 1
) -> float:
    restored = gguf.dequantize(quantize_rows(values, kind, importance), GGMLQuantizationType[kind])
    return float((np.square(restored - values) * weights).mean())


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "Q8_0", "Q4_1", "Q5_1"])
def test_bytes_are_those_of_the_library(kind: str) -> None:
    values = matrix()
    expected = gguf.quants.quantize(values, GGMLQuantizationType[kind])
    assert np.array_equal(quantize_rows(values, kind), expected)


@pytest.mark.parametrize("kind", [*K_TYPES, "IQ4_NL"])
def test_any_number_of_threads_gives_the_same_bytes(kind: str) -> None:
    values, importance = matrix(rows=37), np.linspace(0.1, 9, 512, dtype=np.float32)
    alone = quantize_rows(values, kind, importance)
    assert np.array_equal(quantize_rows(values, kind, importance, threads=3), alone)
    block, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    assert alone.shape == (37, 512 // block * size)


def test_more_bits_lose_less() -> None:
    errors = [error(matrix(), kind) for kind in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 100 * errors[-1]


@pytest.mark.parametrize("kind", [*K_TYPES, "IQ4_NL", "Q4_0", "Q5_0"])
def test_importance_lowers_the_error_that_it_weighs(kind: str) -> None:
    importance = np.random.default_rng(1).lognormal(0, 2, 512).astype(np.float32)
    assert error(matrix(), kind, importance, importance) < error(matrix(), kind, None, importance)


def test_what_would_end_the_process_is_refused_first() -> None:
    bad = matrix()
    bad[3, 7] = np.nan
    with pytest.raises(ValueError, match="finite"):
        quantize_rows(bad, "Q4_K")
    with pytest.raises(ValueError, match="blocks of 256, not 64 columns"):
        quantize_rows(matrix(columns=64), "Q4_K")
    with pytest.raises(ValueError, match="512 columns have an importance each"):
        quantize_rows(matrix(), "Q4_K", np.ones(4, np.float32))
    assert set(FALLBACKS) == set(K_TYPES)
