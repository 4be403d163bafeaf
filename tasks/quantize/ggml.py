"""ggml's own quantization, from the library that llama.cpp runs in (xllamacpp's shared object, by ctypes)."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

PARTS_A_THREAD = 4
"""A matrix is cut into more parts than there are threads, which take unlike times."""


@cache
def _quantize_chunk() -> Any:
    import xllamacpp.xllamacpp

    function = ctypes.CDLL(xllamacpp.xllamacpp.__file__).ggml_quantize_chunk
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, pointer, pointer, integer, integer, integer, pointer]
    return function


def quantize_rows(
    values: npt.NDArray[np.float32], type_name: str, importance: npt.NDArray[np.float32] | None = None, threads: int = 1
) -> npt.NDArray[np.uint8]:
    """`values` [rows, columns] in a type of ggml, e.g. Q4_K: bytes [rows, bytes of a row]. Any number of threads gives the same.

    `importance` [columns]: how much the square of an error in each column weighs; types of 8 bits do not heed it. The columns
    are a multiple of the type's block, and the values finite: ggml ends the process where they are not.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    kind = GGMLQuantizationType[type_name]
    block, block_bytes = GGML_QUANT_SIZES[kind]
    rows, columns = values.shape
    if columns % block or not np.isfinite(values).all():
        raise ValueError(f"{type_name} takes rows of finite values in blocks of {block}, not {columns} columns")
    source = np.ascontiguousarray(values, np.float32)
    weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
    if weights is not None and weights.shape != (columns,):
        raise ValueError(f"{columns} columns have an importance each, not {weights.shape}")
    target = np.zeros((rows, columns // block * block_bytes), np.uint8)
    quantize = _quantize_chunk()

    def part(first: int, count: int) -> int:
        given = None if weights is None else weights.ctypes.data
        done: int = quantize(int(kind), source.ctypes.data, target.ctypes.data, first * columns, count, columns, given)
        return done

    size = max(1, -(-rows // (threads * PARTS_A_THREAD)))
    parts = [(first, min(size, rows - first)) for first in range(0, rows, size)]
    part(*parts[0])  # sets up the type's tables
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda cut: part(*cut), parts[1:]))
    return target
