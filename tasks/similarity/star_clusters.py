"""Star clusters: who stays of many similar documents; nobody goes but for one that stays and is itself similar enough.

Similarity does not carry over: of windows that slide along a text neighbours are alike, and the ends share nothing. From
the best document down, one stays unless a better one that stays is similar to it: the lexicographically first maximal
independent set of the graph of similar pairs (Blelloch, Fineman, Shun 2012, arXiv:1202.3205), which is one for any order
of the work. Each document that stays is the centre of a star of those that go for it.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tasks.similarity.lsh import BUCKET_COMPARISONS, buckets, jaccard, prefetch
from tasks.similarity.numba_cache import jit
from tasks.similarity.shingles import Int64, UInt64

Int32 = npt.NDArray[np.int32]


@jit
def _elect_centres(
    borders: Int64, own: Int32, count: int, shingles: UInt64, starts: Int64, sizes: Int64, threshold: float, max_comparisons: int,
    centres: Int64,
) -> tuple[int, int]:  # fmt: skip
    """Go through the documents from the best down; `centres[i]` becomes the one that stays for document i.

    `own[borders[i]:borders[i + 1]]` are its buckets, numbers below `count`. Returns the number of comparisons, and of
    documents with a bucket in which more than `max_comparisons` stay.
    """
    newest, held = np.full(count, -1, np.int32), np.zeros(count, np.int32)
    entries = np.empty((len(own), 2), np.int32)  # a document that stays, and the entry before it in its bucket
    met = np.full(len(centres), -1, np.int32)
    compared = capped = end = 0
    for i in range(len(centres)):
        best, nearest = i, 0.0
        for at in range(borders[i], borders[i + 1]):
            entry = newest[own[at]]
            while entry >= 0:
                j, entry = entries[entry, 0], entries[entry, 1]
                if met[j] == i:
                    continue
                met[j] = i
                if min(sizes[i], sizes[j]) < threshold * max(
                    sizes[i], sizes[j]
                ):  # the similarity is at most their ratio
                    continue
                compared += 1
                similarity = jaccard(shingles, starts, sizes, i, j)
                if similarity >= threshold and (similarity > nearest or (similarity == nearest and j < best)):
                    best, nearest = j, similarity
        centres[i] = best
        if best < i:
            continue
        full = False
        for at in range(borders[i], borders[i + 1]):
            if held[own[at]] == max_comparisons:
                full = True
                continue
            entries[end, 0], entries[end, 1] = i, newest[own[at]]
            newest[own[at]] = end
            held[own[at]] += 1
            end += 1
        capped += full
    return compared, capped


@jit
def _by_document(members: Int32, numbers: Int32, ends: Int64, own: Int32) -> None:
    """Sort bucket `numbers` by the document in each; `ends[i]` is where those of document i begin, and then end."""
    for k in range(len(members)):
        own[ends[members[k]]] = numbers[k]
        ends[members[k]] += 1


def star_centres(
    bands: Iterable[UInt64], shingles: UInt64, starts: Int64, sizes: Int64, threshold: float
) -> tuple[Int64, dict[str, int]]:
    """For each document the one that stays in its place, itself where it stays: the most similar, of equals the best.

    Documents come from the best down; the rest is as in `lsh.clusters`, for pairs that share a band and have a Jaccard
    similarity of `threshold` or more. Returns int64 [documents], and counts of the work.
    """
    documents = np.flatnonzero(sizes * (starts >= 0))
    parts = [(np.zeros(0, np.int32), np.zeros(0, np.int32))]
    count = 0
    for keys, order in prefetch((band, order) for band in bands for order in buckets(band, documents, stable=False)):
        if not len(order):
            continue
        same = np.concatenate([[False], keys[order[1:]] == keys[order[:-1]], [False]])
        shared = same[1:] | same[:-1]
        first = ~same[:-1][shared]
        parts.append((order[shared].astype(np.int32), (np.cumsum(first) - 1 + count).astype(np.int32)))
        count += int(first.sum())
    members, numbers = (np.concatenate(part) for part in zip(*parts, strict=True))
    borders = np.concatenate([[0], np.cumsum(np.bincount(members, minlength=len(starts)))])
    own = np.empty(len(members), np.int32)
    _by_document(members, numbers, borders[:-1].copy(), own)
    found = np.empty(len(starts), np.int64)
    compared, capped = _elect_centres(
        borders, own, count, shingles, starts, sizes, threshold, BUCKET_COMPARISONS, found
    )
    return found, {"compared": compared, "capped": capped}
