"""MinHash LSH: near-duplicate clusters; MinHash banding proposes, the exact Jaccard similarity of the shingle sets decides.

Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4: with `bands` bands of `rows` rows, a pair of
similarity s becomes a candidate with probability 1 - (1 - s^rows)^bands.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.similarity.numba_cache import jit
from tasks.similarity.shingles import Int64, UInt32, UInt64

Item = TypeVar("Item")
Float64 = npt.NDArray[np.float64]

BUCKET_COMPARISONS = 64
"""Comparisons a document makes in one bucket: all that is in a bucket of this size; in a larger one the first document
of each cluster that the bucket holds, so that thousands of near-copies cost thousands of comparisons, not millions."""
SORT_BATCH = 1 << 26
"""Documents whose keys are sorted at a time; of a larger corpus, one range of keys after the other."""


def candidate_probability(similarity: float, bands: int, rows: int) -> float:
    """Chance that a pair of this Jaccard similarity shares at least one band."""
    return float(1 - (1 - similarity**rows) ** bands)


def band_keys(signatures: UInt32, bands: int, rows: int) -> UInt64:
    """One key a band: uint32 [documents, bands * rows] → uint64 [bands, documents]."""
    keys = np.zeros((bands, len(signatures)), np.uint64)
    for row in range(rows):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) ^ signatures[:, row::rows].T.astype(np.uint64)
        keys ^= keys >> np.uint64(29)
    return keys


@jit
def _shared(shingles: UInt64, starts: Int64, sizes: Int64, i: int, j: int) -> int:
    """How many shingles two sets have in common."""
    at, at_end = starts[i], starts[i] + sizes[i]
    to, to_end = starts[j], starts[j] + sizes[j]
    shared = 0
    while at < at_end and to < to_end:
        if shingles[at] == shingles[to]:
            shared += 1
            at += 1
            to += 1
        elif shingles[at] < shingles[to]:
            at += 1
        else:
            to += 1
    return shared


@jit
def jaccard(shingles: UInt64, starts: Int64, sizes: Int64, i: int, j: int) -> float:
    """Exact similarity of two shingle sets."""
    shared = _shared(shingles, starts, sizes, i, j)
    union = sizes[i] + sizes[j] - shared
    return shared / union if union else 0.0


@jit
def _jaccard_similarities(shingles: UInt64, starts: Int64, sizes: Int64, pairs: Int64) -> Float64:
    out = np.empty(len(pairs), np.float64)
    for k in range(len(pairs)):
        out[k] = jaccard(shingles, starts, sizes, pairs[k, 0], pairs[k, 1])
    return out


@jit
def _containments(shingles: UInt64, starts: Int64, sizes: Int64, pairs: Int64) -> Float64:
    out = np.empty(len(pairs), np.float64)
    for k in range(len(pairs)):
        shared = _shared(shingles, starts, sizes, pairs[k, 0], pairs[k, 1])
        out[k] = shared / max(1, sizes[pairs[k, 0]])
    return out


@jit
def _simhash(shingles: UInt64, offsets: Int64, bands: int, bits: int, out: UInt32) -> None:
    votes = np.empty(bands * bits, np.int64)
    for doc in range(len(offsets) - 1):
        votes[:] = 0
        for at in range(offsets[doc], offsets[doc + 1]):
            x = shingles[at]
            left, word = 0, np.uint64(0)
            for k in range(bands * bits):
                if left == 0:  # SplitMix64 gives the next 64 bits
                    x += np.uint64(0x9E3779B97F4A7C15)
                    word = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
                    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
                    word ^= word >> np.uint64(31)
                    left = 64
                votes[k] += np.int64(word & np.uint64(1)) * 2 - 1
                word >>= np.uint64(1)
                left -= 1
        for band in range(bands):
            value = np.uint32(0)
            for k in range(band * bits, (band + 1) * bits):
                value = np.uint32(value << np.uint32(1)) | np.uint32(votes[k] > 0)
            out[doc, band] = value


@jit
def _root(parents: Int64, i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@jit
def _join_buckets(
    keys: UInt64,
    order: Int64,
    shingles: UInt64,
    starts: Int64,
    sizes: Int64,
    threshold: float,
    max_comparisons: int,
    parents: Int64,
) -> tuple[int, int]:
    """Compare within the buckets of one band; pairs at or above the threshold join two trees of `parents` (union-find).

    Returns the number of comparisons, and of documents that had more clusters to compare with than `max_comparisons`.
    """
    compared = capped = 0
    leaders = np.empty(max_comparisons, np.int64)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and keys[order[end]] == keys[order[start]]:
            end += 1
        count = 0
        for at in range(start, end):
            i = order[at]
            known = False
            for k in range(count):
                j = leaders[k]
                if _root(parents, i) == _root(parents, j):
                    known = True
                    continue
                small, large = min(sizes[i], sizes[j]), max(sizes[i], sizes[j])
                if small < threshold * large:  # the similarity is at most small / large
                    continue
                compared += 1
                if jaccard(shingles, starts, sizes, i, j) >= threshold:
                    parents[_root(parents, i)] = _root(parents, j)
                    known = True
            if end - start <= max_comparisons or (not known and count < max_comparisons):
                leaders[count] = i
                count += 1
            elif not known:
                capped += 1
        start = end
    return compared, capped


@jit
def _flatten(parents: Int64) -> None:
    for i in range(len(parents)):
        parents[i] = _root(parents, i)


def simhash(shingles: UInt64, offsets: Int64, bands: int, bits: int) -> UInt32:
    """SimHash (Charikar 2002) of the shingle sets: `bands` times `bits` sign bits, uint32 [documents, bands].

    Each bit is the majority, over the shingles, of a bit of the shingle's hash (stretched by SplitMix64).
    """
    out = np.zeros((len(offsets) - 1, bands), np.uint32)
    _simhash(shingles, offsets, bands, bits, out)
    return out


def simhash_probability(similarity: float, bands: int, bits: int) -> float:
    """Chance that two equally large sets of this Jaccard similarity agree in all bits of at least one band.

    A bit differs with probability angle / pi, and the cosine of the angle is 2s / (1 + s) (Charikar 2002).
    """
    differs = float(np.arccos(min(1.0, 2 * similarity / (1 + similarity))) / np.pi)
    return float(1 - (1 - (1 - differs) ** bits) ** bands)


def buckets(keys: UInt64, documents: Int64, stable: bool = True) -> Iterator[Int64]:
    """`documents` in the order of their `keys`, uint64 [all documents], in parts that share no key, ascending.

    Those of one key stay in their order if `stable`; where that does not matter sorting is several times as fast. A part
    is sorted at a time, so that what is held beside the keys is bounded by SORTED_AT_ONCE, not by the corpus.
    """
    parts = max(1, -(-len(documents) // SORT_BATCH))
    kind: Literal["stable", "quicksort"] = "stable" if stable else "quicksort"
    own = keys[documents]
    if parts == 1:
        yield documents[np.argsort(own, kind=kind)]
        return
    width = 2**64 // parts + 1
    for part in range(parts):
        within = own >= np.uint64(part * width)
        if part < parts - 1:
            within &= own < np.uint64((part + 1) * width)
        chosen = np.flatnonzero(within)
        yield documents[chosen[np.argsort(own[chosen], kind=kind)]]


def prefetch(items: Iterator[Item]) -> Iterator[Item]:
    """The items; while one is worked on, a thread makes the next (sorting and comparing let go of the GIL)."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def candidate_documents(bands: Iterable[UInt64], documents: Int64) -> Int64:
    """Those of `documents` that share a key with another in at least one band, in the order given."""
    shared = np.zeros(int(documents.max(initial=-1)) + 1, np.bool_)
    for keys, order in prefetch((band, order) for band in bands for order in buckets(band, documents, stable=False)):
        equal = keys[order[1:]] == keys[order[:-1]]
        shared[order[1:][equal]] = True
        shared[order[:-1][equal]] = True
    return documents[shared[documents]]


def clusters(
    bands: Iterable[UInt64], shingles: UInt64, starts: Int64, sizes: Int64, threshold: float
) -> tuple[Int64, dict[str, int]]:
    """Connected components of the graph of pairs that share a band and have a Jaccard similarity of `threshold` or more.

    Document i's shingles are the sorted `shingles[starts[i]:starts[i] + sizes[i]]`; `bands` yields uint64 [documents]
    keys. The documents must come in an order of their own (sorted by id, say): then nothing depends on the order in
    which they were read. Documents without shingles, or with a start of -1, stay alone. Returns labels, int64
    [documents], each a member of its component, and counts of the work: `compared` pairs, and `capped`, documents that
    FAN kept from some comparison.
    """
    documents = len(starts)
    with_shingles = np.flatnonzero(sizes * (starts >= 0))
    parents = np.arange(documents, dtype=np.int64)
    work = {"compared": 0, "capped": 0}
    for keys, order in prefetch((band, order) for band in bands for order in buckets(band, with_shingles)):
        compared, capped = _join_buckets(keys, order, shingles, starts, sizes, threshold, BUCKET_COMPARISONS, parents)
        work["compared"] += compared
        work["capped"] += capped
    _flatten(parents)
    return parents, work


def jaccard_similarities(shingles: UInt64, starts: Int64, sizes: Int64, pairs: Int64) -> Float64:
    """Exact Jaccard similarities, float64 [pairs], of the shingle sets of `pairs`, int64 [pairs, 2]."""
    measured: Float64 = _jaccard_similarities(shingles, starts, sizes, pairs)
    return measured


def containments(shingles: UInt64, starts: Int64, sizes: Int64, pairs: Int64) -> Float64:
    """Share of the first one's shingles that the second has, exactly, float64 [pairs], for `pairs`, int64 [pairs, 2]."""
    measured: Float64 = _containments(shingles, starts, sizes, pairs)
    return measured
