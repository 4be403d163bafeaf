"""Near-duplicate clusters: MinHash banding proposes, the exact Jaccard similarity of the shingle sets decides.

Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4: with `bands` bands of `rows` rows, a pair of
similarity s becomes a candidate with probability 1 - (1 - s^rows)^bands.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tasks.text.shingles import Int64, UInt32, UInt64, jit

Float64 = npt.NDArray[np.float64]

FAN = 64
"""Comparisons a document makes in one bucket: all that is in a bucket of this size; in a larger one the first document
of each cluster that the bucket holds, so that thousands of near-copies cost thousands of comparisons, not millions."""


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
def _jaccard(shingles: UInt64, starts: Int64, sizes: Int64, i: int, j: int) -> float:
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
    union = sizes[i] + sizes[j] - shared
    return shared / union if union else 0.0


@jit
def _similarities(shingles: UInt64, starts: Int64, sizes: Int64, pairs: Int64) -> Float64:
    out = np.empty(len(pairs), np.float64)
    for k in range(len(pairs)):
        out[k] = _jaccard(shingles, starts, sizes, pairs[k, 0], pairs[k, 1])
    return out


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
    fan: int,
    parents: Int64,
    edges: Int64,
    found: int,
) -> tuple[int, int, int]:
    """Compare within the buckets of one band; write the pairs that join two clusters to `edges` from `found` on.

    Returns the number of edges, of comparisons, and of documents that had more clusters to compare with than `fan`.
    """
    compared = capped = 0
    leaders = np.empty(fan, np.int64)
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
                if _jaccard(shingles, starts, sizes, i, j) >= threshold:
                    edges[found, 0], edges[found, 1] = min(i, j), max(i, j)
                    found += 1
                    parents[_root(parents, i)] = _root(parents, j)
                    known = True
            if end - start <= fan or (not known and count < fan):
                leaders[count] = i
                count += 1
            elif not known:
                capped += 1
        start = end
    return found, compared, capped


def clusters(
    bands: Iterable[UInt64], shingles: UInt64, starts: Int64, sizes: Int64, threshold: float
) -> tuple[Int64, dict[str, int]]:
    """Connected components of the graph of pairs that share a band and have a Jaccard similarity of `threshold` or more.

    Document i's shingles are the sorted `shingles[starts[i]:starts[i] + sizes[i]]`; `bands` yields uint64 [documents]
    keys. The documents must come in an order of their own (sorted by id, say): then nothing depends on the order in
    which they were read. Documents without shingles stay alone. Returns labels, int64 [documents], and counts of
    the work: `compared` pairs, and `capped`, documents that FAN kept from some comparison.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    documents = len(starts)
    with_shingles = np.flatnonzero(sizes)
    parents = np.arange(documents, dtype=np.int64)
    edges = np.zeros((max(documents, 1), 2), np.int64)
    found, work = 0, {"compared": 0, "capped": 0}
    for keys in bands:
        order = with_shingles[np.argsort(keys[with_shingles], kind="stable")]
        found, compared, capped = _join_buckets(
            keys, order, shingles, starts, sizes, threshold, FAN, parents, edges, found
        )
        work["compared"] += compared
        work["capped"] += capped
    i, j = edges[:found].T
    graph = coo_array((np.ones(found, np.int8), (i, j)), shape=(documents, documents))
    labels: Int64 = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels, work


def similarities(shingles: UInt64, starts: Int64, sizes: Int64, pairs: Int64) -> Float64:
    """Exact Jaccard similarities, float64 [pairs], of the shingle sets of `pairs`, int64 [pairs, 2]."""
    measured: Float64 = _similarities(shingles, starts, sizes, pairs)
    return measured
