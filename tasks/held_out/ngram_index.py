"""N-gram index: the n-grams of held-out items in files; written item by item, sorted part by part, read through memory maps.

On disk an n-gram takes 16 bytes, and 8 more for each item that has it. In memory are the items' names while it is
written (about 100 bytes an item), and when it is sorted a 256th of the n-grams at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, starmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.conversations.conversation import ROLE_MARKER
from tasks.similarity import shingles
from tasks.similarity.canonical_text import canonical_text
from tasks.similarity.shingles import Int64, UInt64

MIN_WORDS = 4
"""Words; an item of fewer is said by chance."""
ENTRY = np.dtype([("gram", np.uint64), ("item", np.int64)])
PARTS = 256
"""Parts in which the n-grams are sorted, by the first byte of their hash."""
ITEM_BATCH = 1 << 18
"""N-grams of items that are gone through at a time."""


def ngram_sets(texts: Sequence[str], n: int) -> tuple[UInt64, Int64]:
    """Word n-grams of each text without the speakers' names: sorted hashes, uint64, and the texts' borders in them."""
    column = pa.array([canonical_text(ROLE_MARKER.sub("", text)) for text in texts], pa.large_string())
    _, offsets, data = column.buffers()
    borders = np.frombuffer(offsets, np.int64)[: len(texts) + 1] if texts else np.zeros(1, np.int64)
    return shingles.shingle_sets(np.frombuffer(data or b"", np.uint8), borders, n)


@dataclass(frozen=True)
class NgramTable:
    """The n-grams of one length, in files that are mapped into memory.

    Attributes:
        length: n.
        grams: the distinct hashes, sorted, uint64 [grams].
        starts, items: the items that have gram g are `items[starts[g]:starts[g + 1]]`, int64.
    """

    length: int
    grams: UInt64
    starts: Int64
    items: Int64

    def blocks(self) -> Iterator[slice]:
        """The grams in slices with about AT_ONCE entries of `items`."""
        borders = np.searchsorted(self.starts, np.arange(0, len(self.items), ITEM_BATCH))
        return starmap(slice, pairwise(np.unique([*borders.tolist(), len(self.grams)]).tolist()))


class NgramIndexWriter:
    """Writes to `folder` the tables of n-grams: of `n` words and, for short items, of as many as fewer words allow."""

    def __init__(self, folder: Path, n: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._lengths = folder, [n, *range(n - 1, MIN_WORDS - 1, -1)]
        self._names: list[bytes] = []

    def add(self, names: Sequence[str], texts: Sequence[str], short: Sequence[bool]) -> None:
        """Take items by their texts; those that are `short` are looked for even with fewer than `n` words."""
        left = np.arange(len(texts))
        for length in self._lengths:
            hashes, borders = ngram_sets([texts[item] for item in left.tolist()], length)
            sizes = np.diff(borders)
            entries = np.empty(len(hashes), ENTRY)
            entries["gram"], entries["item"] = hashes, np.repeat(left + len(self._names), sizes)
            self._spread(entries, length)
            left = left[(sizes == 0) & np.asarray(short, bool)[left]]
        self._names += [name.encode() for name in names]

    def _spread(self, entries: npt.NDArray[Any], length: int) -> None:
        part = entries["gram"] >> np.uint64(56)
        order = np.argsort(part, kind="stable")
        borders = np.searchsorted(part[order], np.arange(PARTS + 1))
        for number in np.flatnonzero(np.diff(borders)).tolist():
            with (self._folder / f"{length}.{number}").open("ab") as file:
                entries[order[borders[number] : borders[number + 1]]].tofile(file)

    def close(self) -> None:
        """Sort what was taken; items with the same n-gram keep the order in which they came."""
        for length in self._lengths:
            grams, starts, items = (self._folder / f"{length}.{name}" for name in ("grams", "starts", "items"))
            end = 0
            with grams.open("wb") as to_grams, starts.open("wb") as to_starts, items.open("wb") as to_items:
                for number in range(PARTS):
                    if not (path := self._folder / f"{length}.{number}").exists():
                        continue
                    entries = np.fromfile(path, ENTRY)
                    path.unlink()
                    entries = entries[np.argsort(entries["gram"], kind="stable")]
                    ordered = entries["gram"]
                    first = np.append(0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)
                    ordered[first].tofile(to_grams)
                    (first + end).tofile(to_starts)
                    entries["item"].tofile(to_items)
                    end += len(entries)
                np.array([end]).tofile(to_starts)
        np.save(self._folder / "names.npy", np.array(self._names, np.bytes_))
        np.save(self._folder / "lengths.npy", np.array(self._lengths))


def read_ngram_tables(folder: Path) -> tuple[list[NgramTable], npt.NDArray[np.bytes_]]:
    """The tables that an `NgramIndexWriter` left in `folder`, longest n-grams first, and the items' names (UTF-8)."""
    lengths = np.load(folder / "lengths.npy").tolist()
    kinds = {"grams": np.uint64, "starts": np.int64, "items": np.int64}
    tables = [
        NgramTable(length, **{name: _mapped(folder / f"{length}.{name}", kind) for name, kind in kinds.items()})
        for length in lengths
    ]
    return tables, np.load(folder / "names.npy", mmap_mode="r")


def _mapped(path: Path, kind: Any) -> npt.NDArray[Any]:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)
