"""How much of a held-out item stands in a text, by word n-grams: who was tested on must not be trained on.

An item and a text overlap by `|A ∩ B| / min(|A|, |B|)` of their sets of word n-grams (Szymkiewicz-Simpson): 1 when the
item stands in the text, and also when the text is a part of the item. N-grams that occur in many texts say nothing about
where a text comes from and are left out of A, B and their intersection, as in GPT-3 (Brown et al. 2020,
arXiv:2005.14165, appendix C); deciding by a share of 8-grams follows PaLM (Chowdhery et al. 2022, arXiv:2204.02311,
section 8), which finds what was changed a little as well. An answer of fewer words than n is looked for as a whole.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.text import shingles
from tasks.text.comparable import comparable
from tasks.text.conversation import MARKERS, Message
from tasks.text.shingles import Int64, UInt64

SHORTEST = 4
"""Words; an item of fewer is said by chance."""
LONG = 32
"""N-grams from which on a text and an item are long enough to be compared with their boilerplate."""
VERBATIM = 0.8
"""Overlap, boilerplate included, of long texts that are nearly the same: dedup's threshold."""
EVERYWHERE = 100
"""Times the limit of boilerplate, from which on an n-gram counts for nothing at all."""
PAIRS = 1 << 22
"""Pairs of a text's n-gram and an item that are counted at once: bounds the memory."""
Bools = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
_MARKER = re.compile(rf"^(?:{'|'.join(map(re.escape, MARKERS.values()))})", re.MULTILINE)


def texts_of(kind: str, messages: Sequence[Message]) -> list[str]:
    """What to look for of a held-out item: a question and its answer each by itself, a conversation as a whole."""
    contents = [message["content"] for message in messages]
    return contents if kind == "question" else ["\n".join(contents)]


def sets_of(texts: Sequence[str], n: int) -> tuple[UInt64, Int64]:
    """Word n-grams of each text without the speakers' names: sorted hashes, uint64, and the texts' borders in them."""
    column = pa.array([comparable(_MARKER.sub("", text)) for text in texts], pa.large_string())
    _, offsets, data = column.buffers()
    borders = np.frombuffer(offsets, np.int64)[: len(texts) + 1] if texts else np.zeros(1, np.int64)
    return shingles.shingle_sets(np.frombuffer(data or b"", np.uint8), borders, n)


@dataclass(frozen=True)
class Index:
    """The n-grams of the held-out items, for look-up.

    Attributes:
        lengths: n for each group: the n-gram's own, then shorter ones for items of fewer words.
        grams: for each group the distinct hashes, sorted, uint64 [grams].
        starts, items: for each group, the items that have gram g are `items[starts[g]:starts[g + 1]]`, int64.
        names: what each item is, str [items].
    """

    lengths: list[int]
    grams: list[UInt64]
    starts: list[Int64]
    items: list[Int64]
    names: list[str]

    def save(self, folder: Path) -> None:
        """Write it for the workers, who map it into memory."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, arrays in enumerate(zip(self.grams, self.starts, self.items, strict=True)):
            for name, array in zip(("grams", "starts", "items"), arrays, strict=True):
                np.save(folder / f"{name}{number}.npy", array)
        np.save(folder / "lengths.npy", np.array(self.lengths))
        np.save(folder / "names.npy", np.array(self.names, dtype=np.str_))

    @classmethod
    def load(cls, folder: Path) -> "Index":
        """Read what `save` wrote."""
        lengths = np.load(folder / "lengths.npy").tolist()
        grams, starts, items = (
            [np.load(folder / f"{name}{number}.npy", mmap_mode="r") for number in range(len(lengths))]
            for name in ("grams", "starts", "items")
        )
        return cls(lengths, grams, starts, items, np.load(folder / "names.npy").tolist())

    @classmethod
    def of(cls, names: Sequence[str], texts: Sequence[str], n: int, short: Sequence[bool]) -> "Index":
        """The index of items by their texts; those that are `short` are looked for even with fewer than `n` words."""
        index = cls([], [], [], [], list(names))
        left = np.arange(len(texts))
        for length in (n, *range(n - 1, SHORTEST - 1, -1)):
            hashes, borders = sets_of([texts[item] for item in left.tolist()], length)
            sizes = np.diff(borders)
            owners = np.repeat(left, sizes)
            order = np.argsort(hashes, kind="stable")
            distinct, first = np.unique(hashes[order], return_index=True)
            index.lengths.append(length)
            index.grams.append(distinct)
            index.starts.append(np.append(first, len(hashes)).astype(np.int64))
            index.items.append(owners[order])
            left = left[(sizes == 0) & np.asarray(short, bool)[left]]
        return index

    def hits(self, texts: Sequence[str]) -> "Hits":
        """Which of the n-grams are in each text."""
        hits = Hits([], [], np.zeros(len(texts), np.int64))
        for group, (length, grams) in enumerate(zip(self.lengths, self.grams, strict=True)):
            hashes, borders = sets_of(texts, length) if len(grams) or not group else sets_of([], length)
            sizes = np.diff(borders)
            if not group:
                hits.sizes[:] = sizes
            place = np.minimum(np.searchsorted(grams, hashes), max(len(grams) - 1, 0))
            known = grams[place] == hashes if len(grams) else np.zeros(len(hashes), bool)
            hits.rows.append(np.repeat(np.arange(len(sizes)), sizes)[known])
            hits.grams.append(place[known])
        return hits

    def frequencies(self, hits: "Hits", counted: Bools) -> list[Int64]:
        """In how many of the `counted` texts each n-gram is, int64 [grams] for each group."""
        return [
            np.bincount(grams[counted[rows]], minlength=len(known))
            for rows, grams, known in zip(hits.rows, hits.grams, self.grams, strict=True)
        ]

    def best(self, hits: "Hits", ignored: Sequence[Bools], smallest: int = 1) -> tuple[Int64, Float64]:
        """For each text the item that it overlaps most (-1: none) and by how much; `ignored` n-grams do not count.

        Sets of fewer than `smallest` n-grams are not compared. Of items alike the first is named.
        """
        texts, names = len(hits.sizes), max(len(self.names), 1)
        item, share = np.full(texts, -1), np.zeros(texts)
        for group, (rows, found) in enumerate(zip(hits.rows, hits.grams, strict=True)):
            counted = ~np.asarray(ignored[group])
            starts, items = self.starts[group], self.items[group]
            of_item = np.bincount(items[np.repeat(counted, np.diff(starts))], minlength=names)
            size = hits.sizes - np.bincount(rows[~counted[found]], minlength=texts)
            if group:  # an item that is one n-gram: the text holds it or does not, whatever its own size
                size[:] = np.iinfo(np.int64).max
            rows, found = rows[counted[found]], found[counted[found]]
            postings = starts[found + 1] - starts[found]
            # A text's hits are together, so that batches of whole texts bound the memory that the pairs take.
            batch_of_row = np.cumsum(np.bincount(rows, weights=postings, minlength=texts)) // PAIRS
            for batch in np.unique(batch_of_row[rows]):
                part = batch_of_row[rows] == batch
                pair_rows = np.repeat(rows[part], postings[part])
                within = np.arange(len(pair_rows)) - np.repeat(
                    np.cumsum(postings[part]) - postings[part], postings[part]
                )
                pair_items = items[np.repeat(starts[found[part]], postings[part]) + within]
                pairs, shared = np.unique(pair_rows * names + pair_items, return_counts=True)
                pair_rows, pair_items = np.divmod(pairs, names)
                smaller = np.minimum(of_item[pair_items], size[pair_rows])
                shares = np.where(smaller >= smallest, shared / smaller, 0.0)
                order = np.lexsort((-pair_items, shares))
                order = order[shares[order] > share[pair_rows[order]]]
                item[pair_rows[order]], share[pair_rows[order]] = pair_items[order], shares[order]
        return item, share

    def contaminated(self, hits: "Hits", frequencies: Sequence[Int64], rule: "Rule") -> tuple[Int64, Float64]:
        """For each text the item for which it must go (-1: it may stay), and their overlap.

        `frequencies` is in how many training texts each n-gram is.
        """
        item, share = self.best(hits, [group > rule.max_documents for group in frequencies])
        # Copied into many texts, a leak makes boilerplate of itself: what is nearly verbatim counts in any case.
        verbatim, whole = self.best(hits, [group > EVERYWHERE * rule.max_documents for group in frequencies], LONG)
        overlap = np.where(share >= rule.max_overlap, share, whole)
        item = np.where(share >= rule.max_overlap, item, verbatim)
        stays = (share < rule.max_overlap) & (whole < max(VERBATIM, rule.max_overlap))
        return np.where(stays, -1, item), np.where(stays, np.maximum(share, 0), overlap)


@dataclass(frozen=True)
class Rule:
    """From which overlap on a text is contaminated, and in how many texts an n-gram is boilerplate."""

    max_overlap: float
    max_documents: int


@dataclass(frozen=True)
class Hits:
    """N-grams of an index found in texts: for each group rows and grams, int64 [hits]; n-grams in each text, int64 [texts]."""

    rows: list[Int64]
    grams: list[Int64]
    sizes: Int64
