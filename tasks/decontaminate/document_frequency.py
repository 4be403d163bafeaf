"""In how many training documents each n-gram of a held-out item is: those in many are boilerplate and do not count."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tasks.held_out.ngram_overlap import EVERYWHERE, Counted, Index


def add_up(found: Iterable[Path], folder: Path, max_documents: int) -> dict[str, int]:
    """Write in how many training documents the n-grams are, and how many of each item's count; returns totals."""
    index = Index.load(folder)
    frequencies = _frequencies(index, folder, "w+")
    for path in found:
        with np.load(path) as counts:
            arrays = list(counts.values())
        for frequency, grams, count in zip(frequencies, arrays[::2], arrays[1::2], strict=True):
            frequency[grams] += count
    for name, most in (("ordinary", max_documents), ("nearly_all", EVERYWHERE * max_documents)):
        np.save(folder / f"{name}.npy", index.counted(frequencies, most).of_item)
    boilerplate = 0
    for table, frequency in zip(index.tables, frequencies, strict=True):
        boilerplate += sum(int((frequency[block] > max_documents).sum()) for block in table.blocks())
    return {"ngrams": sum(len(table.grams) for table in index.tables), "boilerplate_ngrams": boilerplate}


def _frequencies(index: Index, folder: Path, mode: Literal["r", "w+"]) -> list[Any]:
    """In how many training documents each n-gram is, int64 [grams] for each table, mapped into memory."""
    return [
        np.lib.format.open_memmap(folder / f"frequencies{number}.npy", mode, np.int64, table.grams.shape)
        for number, table in enumerate(index.tables)
    ]


def counted(index: Index, folder: Path, max_documents: int) -> tuple[Counted, Counted]:
    """The n-grams that are no boilerplate, and nearly all."""
    frequencies = _frequencies(index, folder, "r")
    ordinary, nearly_all = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ordinary", "nearly_all"))
    return (
        Counted(ordinary, frequencies, max_documents),
        Counted(nearly_all, frequencies, EVERYWHERE * max_documents),
    )
