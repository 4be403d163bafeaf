"""Containment candidates, larger documents that share most of a document's sample: bounded posting lists, counted by a kernel."""

import numpy as np
import numpy.typing as npt

from tasks.similarity.numba_cache import jit
from tasks.similarity.shingles import Int64, UInt8

Bools = npt.NDArray[np.bool_]
DOCUMENT_BATCH = 1 << 14
"""Documents whose candidates are counted at a time: bounds what the counts and pairs take."""


@jit
def _propose_containers(
    grams: Int64, borders: Int64, owners: Int64, starts: Int64, lists: Int64, cut: Bools, sizes: Int64, most: int,
    votes: UInt8, touched: Int64, inner: Int64, outer: Int64, bounded: Bools,
) -> int:  # fmt: skip
    end = 0
    for k in range(len(owners)):
        own, sample, unknown, found = owners[k], borders[k + 1] - borders[k], 0, 0
        for at in range(borders[k], borders[k + 1]):
            unknown += cut[grams[at]]
            for place in range(starts[grams[at]], starts[grams[at] + 1]):
                other = lists[place]
                if sizes[other] <= sizes[own]:  # the largest come first
                    break
                if votes[other] == 0:
                    touched[found] = other
                    found += 1
                votes[other] += 1
        left, passed, level = most, 0, sample
        while level > 0 and 2 * (level + unknown) >= sample and passed <= most:
            first = end
            for at in range(found):
                if votes[touched[at]] == level:
                    outer[end] = touched[at]
                    end += 1
            passed += end - first
            outer[first:end].sort()
            end = min(end, first + left)
            inner[first:end] = own
            left -= end - first
            level -= 1
        bounded[k] = passed > most or (sample > 0 and 2 * unknown >= sample)
        for at in range(found):
            votes[touched[at]] = 0
    return end


def propose_containers(
    grams: Int64,
    borders: Int64,
    occurrence_grams: Int64,
    occurrence_documents: Int64,
    sizes: Int64,
    max_postings: int,
    max_candidates: int,
) -> tuple[Int64, Bools]:
    """For each document the larger ones that may share half of its sample, the `max_candidates` that share most of it.

    Documents are numbers from the largest down, so that `sizes`, int64 [documents], descend. Document k's sample is
    `grams[borders[k]:borders[k + 1]]`; gram `occurrence_grams[i]` stands in document `occurrence_documents[i]`. Of a gram
    only the `max_postings` first documents are looked at, and where there are more, it counts as shared with whatever
    document it is. Returns the pairs (document, larger one), int64 [pairs, 2], and the documents that a bound kept from
    some, bool [documents].
    """
    distinct = int(max(occurrence_grams.max(initial=-1), grams.max(initial=-1))) + 1
    order = np.lexsort((occurrence_documents, occurrence_grams))
    counts = np.bincount(occurrence_grams, minlength=distinct)
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    lists = occurrence_documents[order[within < max_postings]]
    starts = np.concatenate([[0], np.cumsum(np.minimum(counts, max_postings))])
    cut, bounded = counts > max_postings, np.zeros(len(sizes), np.bool_)
    votes = np.zeros(len(sizes), np.uint8)
    touched = np.empty(int(np.diff(borders).max(initial=0)) * max_postings, np.int64)
    inner, outer = (np.empty(DOCUMENT_BATCH * max_candidates + len(touched), np.int64) for _ in range(2))
    found = [np.zeros((0, 2), np.int64)]
    for at in range(0, len(sizes), DOCUMENT_BATCH):
        owners = np.arange(at, min(at + DOCUMENT_BATCH, len(sizes)))
        here = slice(at, at + len(owners))
        lists_of = starts, lists, cut, sizes, max_candidates, votes, touched, inner, outer
        end = _propose_containers(grams, borders[at : at + len(owners) + 1], owners, *lists_of, bounded[here])
        found.append(np.stack([inner[:end], outer[:end]], axis=1))
    return np.concatenate(found), bounded
