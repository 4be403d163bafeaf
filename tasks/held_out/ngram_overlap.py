"""N-gram overlap: how much of a held-out item stands in a text, by word n-grams; who was tested on must not be trained on.

An item and a text overlap by `|A ∩ B| / min(|A|, |B|)` of their sets of word n-grams (Szymkiewicz-Simpson): 1 when the
item stands in the text, and also when the text is a part of the item. N-grams that occur in many texts say nothing about
where a text comes from and are left out of A, B and their intersection, as in GPT-3 (Brown et al. 2020,
arXiv:2005.14165, appendix C); deciding by a share of 8-grams follows PaLM (Chowdhery et al. 2022, arXiv:2204.02311,
section 8), which finds what was changed a little as well. An answer of fewer words than n is looked for as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.conversations.conversation import Message
from tasks.held_out import ngram_index
from tasks.held_out.ngram_index import NgramTable, ngram_sets
from tasks.similarity.shingles import Int64

MIN_VERBATIM_NGRAMS = 32
"""N-grams from which on a text and an item are long enough to be compared with their boilerplate."""
VERBATIM_OVERLAP = 0.8
"""Overlap, boilerplate included, of long texts that are nearly the same: dedup's threshold."""
UBIQUITOUS_FACTOR = 100
"""Times the limit of boilerplate, from which on an n-gram counts for nothing at all."""
PAIR_BATCH = 1 << 22
"""Pairs of a text's n-gram and an item that are counted at once: bounds the memory."""
Bools = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


def item_texts(kind: str, messages: Sequence[Message]) -> list[str]:
    """What to look for of a held-out item: a question and its answer each by itself, a conversation as a whole."""
    contents = [message["content"] for message in messages]
    return contents if kind == "question" else ["\n".join(contents)]


@dataclass(frozen=True)
class RareNgrams:
    """Which n-grams of an index count: those in at most `max_documents` training texts.

    Attributes:
        document_frequency: in how many training texts each n-gram is, int64 [grams] for each table; None: all count.
        per_item: n-grams that count of each item, int64 [tables, items].
    """

    per_item: Int64
    document_frequency: Sequence[Int64] | None = None
    max_documents: int = 0

    def counts(self, table: int, grams: Int64 | slice) -> Bools:
        """Whether these n-grams of a table count."""
        if self.document_frequency is not None:
            return np.asarray(self.document_frequency[table][grams] <= self.max_documents)
        return np.ones(grams.stop - grams.start if isinstance(grams, slice) else len(grams), bool)


@dataclass(frozen=True)
class NgramIndex:
    """The n-grams of the held-out items, for look-up; its tables and names stay on disk, mapped into memory.

    Attributes:
        tables: the n-grams themselves, then shorter ones for items of fewer words.
        names: what each item is, UTF-8, bytes [items].
    """

    tables: list[NgramTable]
    names: npt.NDArray[np.bytes_]

    @classmethod
    def load(cls, folder: Path) -> "NgramIndex":
        """Read what `ngram_index.NgramIndexWriter` wrote."""
        return cls(*ngram_index.read_ngram_tables(folder))

    def name(self, item: int) -> str:
        """What an item is."""
        return bytes(self.names[item]).decode()

    def rare_ngrams(self, document_frequency: Sequence[Int64] | None = None, max_documents: int = 0) -> RareNgrams:
        """The n-grams in at most `max_documents` training texts; without `document_frequency` all of them."""
        rare = RareNgrams(np.zeros((len(self.tables), len(self.names)), np.int64), document_frequency, max_documents)
        for number, table in enumerate(self.tables):
            for block in table.blocks():
                starts = np.asarray(table.starts[block.start : block.stop + 1])
                items = table.items[starts[0] : starts[-1]][np.repeat(rare.counts(number, block), np.diff(starts))]
                rare.per_item[number] += np.bincount(items, minlength=len(self.names))
        return rare

    def hits(self, texts: Sequence[str]) -> "NgramHits":
        """Which of the n-grams are in each text."""
        hits = NgramHits([], [], np.zeros(len(texts), np.int64))
        for number, table in enumerate(self.tables):
            grams = table.grams
            hashes, borders = (
                ngram_sets(texts, table.length) if len(grams) or not number else ngram_sets([], table.length)
            )
            sizes = np.diff(borders)
            if not number:
                hits.sizes[:] = sizes
            place = np.minimum(np.searchsorted(grams, hashes), max(len(grams) - 1, 0))
            known = grams[place] == hashes if len(grams) else np.zeros(len(hashes), bool)
            hits.rows.append(np.repeat(np.arange(len(sizes)), sizes)[known])
            hits.grams.append(place[known])
        return hits

    def best_match(self, hits: "NgramHits", rare: RareNgrams, smallest: int = 1) -> tuple[Int64, Float64]:
        """For each text the item that it overlaps most (-1: none) and by how much, by the n-grams that are `rare`.

        Sets of fewer than `smallest` n-grams are not compared. Of items alike the first is named.
        """
        texts, names = len(hits.sizes), max(len(self.names), 1)
        item, share = np.full(texts, -1), np.zeros(texts)
        for number, (table, rows, found) in enumerate(zip(self.tables, hits.rows, hits.grams, strict=True)):
            starts, items, of_item = table.starts, table.items, rare.per_item[number]
            counts = rare.counts(number, found)
            size = hits.sizes - np.bincount(rows[~counts], minlength=texts)
            if number:  # an item that is one n-gram: the text holds it or does not, whatever its own size
                size[:] = np.iinfo(np.int64).max
            rows, found = rows[counts], found[counts]
            postings = starts[found + 1] - starts[found]
            # A text's hits are together, so that batches of whole texts bound the memory that the pairs take.
            batch_of_row = np.cumsum(np.bincount(rows, weights=postings, minlength=texts)) // PAIR_BATCH
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

    def contaminated(
        self, hits: "NgramHits", ordinary: RareNgrams, nearly_all: RareNgrams, max_overlap: float
    ) -> tuple[Int64, Float64]:
        """For each text the item for which it must go (-1: it may stay), and their overlap.

        `ordinary` leaves out boilerplate; `nearly_all` only what is UBIQUITOUS_FACTOR times as frequent.
        """
        item, share = self.best_match(hits, ordinary)
        # Copied into many texts, a leak makes boilerplate of itself: what is nearly verbatim counts in any case.
        verbatim, whole = self.best_match(hits, nearly_all, MIN_VERBATIM_NGRAMS)
        overlap = np.where(share >= max_overlap, share, whole)
        item = np.where(share >= max_overlap, item, verbatim)
        stays = (share < max_overlap) & (whole < max(VERBATIM_OVERLAP, max_overlap))
        return np.where(stays, -1, item), np.where(stays, np.maximum(share, 0), overlap)


@dataclass(frozen=True)
class NgramHits:
    """N-grams of an index found in texts: for each table rows and grams, int64 [hits]; n-grams in each text, int64 [texts]."""

    rows: list[Int64]
    grams: list[Int64]
    sizes: Int64

    def document_frequency(self, counted: Bools) -> list[tuple[Int64, Int64]]:
        """For each table the n-grams that are in `counted` texts, int64, and in how many of them."""
        return [
            np.unique(grams[counted[rows]], return_counts=True)
            for rows, grams in zip(self.rows, self.grams, strict=True)
        ]
