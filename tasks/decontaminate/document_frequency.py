"""Document frequency: in how many training documents each n-gram of a held-out item is; those in many are boilerplate and do not count."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tasks.held_out.ngram_overlap import UBIQUITOUS_FACTOR, NgramIndex, RareNgrams


def count_document_frequency(found: Iterable[Path], folder: Path, max_documents: int) -> dict[str, int]:
    """Write in how many training documents the n-grams are, and how many of each item's count; returns totals."""
    index = NgramIndex.load(folder)
    frequencies = _mapped_frequency(index, folder, "w+")
    for path in found:
        with np.load(path) as counts:
            arrays = list(counts.values())
        for frequency, grams, count in zip(frequencies, arrays[::2], arrays[1::2], strict=True):
            frequency[grams] += count
    for name, most in (("ordinary", max_documents), ("nearly_all", UBIQUITOUS_FACTOR * max_documents)):
        np.save(folder / f"{name}.npy", index.rare_ngrams(frequencies, most).per_item)
    boilerplate = 0
    for table, frequency in zip(index.tables, frequencies, strict=True):
        boilerplate += sum(int((frequency[block] > max_documents).sum()) for block in table.blocks())
    return {"ngrams": sum(len(table.grams) for table in index.tables), "boilerplate_ngrams": boilerplate}


def _mapped_frequency(index: NgramIndex, folder: Path, mode: Literal["r", "w+"]) -> list[Any]:
    """In how many training documents each n-gram is, int64 [grams] for each table, mapped into memory."""
    return [
        np.lib.format.open_memmap(folder / f"frequencies{number}.npy", mode, np.int64, table.grams.shape)
        for number, table in enumerate(index.tables)
    ]


def rare_ngrams(index: NgramIndex, folder: Path, max_documents: int) -> tuple[RareNgrams, RareNgrams]:
    """The n-grams that are no boilerplate, and nearly all."""
    frequencies = _mapped_frequency(index, folder, "r")
    ordinary, nearly_all = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ordinary", "nearly_all"))
    return (
        RareNgrams(ordinary, frequencies, max_documents),
        RareNgrams(nearly_all, frequencies, UBIQUITOUS_FACTOR * max_documents),
    )
