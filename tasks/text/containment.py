"""Short documents that stand in longer ones: a small sample of shingles proposes, the exact share decides.

The `SAMPLE` smallest shingle hashes of a document are a random sample of its shingles (bottom-k sketch, Broder 1997).
Where at least half of them occur in a larger document, the share of all its shingles is counted (containment).
"""

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.core.engine import map_shards
from tasks.text import lsh
from tasks.text.shingles import Int64, UInt64
from tasks.text.sketches import Corpus

SAMPLE = 16
"""A document of containment 0.9 has at least half of its sample in the other with probability 0.99999 (binomial)."""
EVERYWHERE = 1000
"""A sampled shingle that stands in more documents is boilerplate and proposes nothing."""
CANDIDATES = 64
"""Longer documents that are measured for each short one: those with most of its sample."""


def contained(
    corpus: Corpus, documents: Int64, by_rank: Int64, least: float, least_shingles: int, work: Path
) -> tuple[Int64, Int64, npt.NDArray[np.float64]]:
    """Which of `documents` have at least the share `least` of their shingles in a larger one that is kept.

    Decided from the largest set down (then by rank): a document that is itself removed keeps no other out, so the
    container named always stays. Returns the documents to remove and their containers, int64, and the shares, float64.
    """
    nothing = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    alive = np.zeros(len(corpus.ids), np.bool_)
    alive[documents] = True
    short = documents[corpus.sizes[documents] >= least_shingles]
    if not len(short):
        return nothing
    grams, owners = _sample(corpus, short)
    np.save(work / "sampled.npy", np.unique(grams))
    shards = [(corpus.folder / f"{name}.u64", np.flatnonzero(corpus.shard == i)) for i, name in enumerate(corpus.names)]
    for number, (_, here) in enumerate(shards):
        np.save(work / f"sizes{number}.npy", corpus.sizes[here] * alive[here])
        np.save(work / f"all{number}.npy", corpus.sizes[here])
    jobs = [(path, work / f"sizes{n}.npy", work / f"all{n}.npy") for n, (path, _) in enumerate(shards)]
    found = list(map_shards(partial(occurrences, sampled=work / "sampled.npy"), jobs, "dedup: contained"))
    sampled = np.load(work / "sampled.npy")
    hits = [np.load(path) for path in found]
    where = np.concatenate([shards[n][1][hit[1]] for n, hit in enumerate(hits)])
    which = np.concatenate([hit[0] for hit in hits])
    pairs = _candidates(np.searchsorted(sampled, grams), owners, which, where, corpus.sizes, len(sampled))
    if not len(pairs):
        return nothing
    shingles, starts = corpus.gather(np.unique(pairs), work / "contained.u64")
    share = lsh.containments(shingles, starts, corpus.sizes, pairs)
    pairs, share = pairs[share >= least], share[share >= least]
    place = np.empty(len(by_rank), np.int64)
    place[by_rank] = np.arange(len(by_rank))
    order = np.lexsort((place[pairs[:, 1]], -share, place[pairs[:, 0]], -corpus.sizes[pairs[:, 0]]))
    gone: dict[int, tuple[int, float]] = {}
    for k in order.tolist():
        inner, outer = pairs[k].tolist()
        if inner not in gone and outer not in gone:
            gone[inner] = (outer, float(share[k]))
    removed = np.array(sorted(gone), np.int64)
    return removed, np.array([gone[i][0] for i in removed], np.int64), np.array([gone[i][1] for i in removed])


def _sample(corpus: Corpus, documents: Int64) -> tuple[UInt64, Int64]:
    """The SAMPLE smallest hashes of each document, and whose they are."""
    hashes, owners = [], []
    for number, name in enumerate(corpus.names):
        here = np.flatnonzero(corpus.shard == number)
        sizes = corpus.sizes[here]
        starts = np.cumsum(sizes) - sizes
        wanted = np.isin(here, documents)
        if not wanted.any():
            continue
        everything = np.memmap(corpus.folder / f"{name}.u64", np.uint64, "r")
        counts = np.minimum(sizes[wanted], SAMPLE)
        at = np.repeat(starts[wanted] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        hashes.append(np.asarray(everything[at]))
        owners.append(np.repeat(here[wanted], counts))
    return np.concatenate(hashes), np.concatenate(owners)


def occurrences(job: tuple[Path, Path, Path], sampled: Path) -> Path:
    """Where the sampled hashes occur in a shard; writes int64 [2, hits]: number of the hash, row of the document."""
    path, sizes, all_sizes = job
    wanted, lengths, grams = np.load(sizes), np.load(all_sizes), np.load(sampled, mmap_mode="r")
    out = sizes.with_suffix(".hits.npy")
    if not lengths.sum():
        np.save(out, np.zeros((2, 0), np.int64))
        return out
    hashes = np.memmap(path, np.uint64, "r")
    rows = np.repeat(np.arange(len(lengths)), lengths)
    at = np.minimum(np.searchsorted(grams, hashes), len(grams) - 1)
    hit = (grams[at] == hashes) & (wanted[rows] > 0)
    np.save(out, np.stack([at[hit], rows[hit]]))
    return out


def _candidates(grams: Int64, owners: Int64, which: Int64, where: Int64, sizes: Int64, distinct: int) -> Int64:
    """Pairs (short, long), int64 [pairs, 2], that share at least half of the short one's sample."""
    order = np.argsort(which, kind="stable")
    which, where = which[order], where[order]
    counts = np.bincount(which, minlength=distinct)
    first = np.cumsum(counts) - counts
    useful = counts[grams] <= EVERYWHERE
    needed = np.bincount(owners, minlength=len(sizes))
    grams, owners = grams[useful], owners[useful]
    found = []
    for at in range(0, len(grams), 1 << 16):  # at most 65 million pairs at a time
        some, owner = grams[at : at + (1 << 16)], owners[at : at + (1 << 16)]
        repeats = counts[some]
        index = np.repeat(first[some] - np.cumsum(repeats) + repeats, repeats) + np.arange(repeats.sum())
        pairs = np.stack([np.repeat(owner, repeats), where[index]], axis=1)
        found.append(pairs[sizes[pairs[:, 0]] < sizes[pairs[:, 1]]])
    if not found:
        return np.zeros((0, 2), np.int64)
    pairs, shared = np.unique(np.concatenate(found), axis=0, return_counts=True)
    enough = 2 * shared >= needed[pairs[:, 0]]
    pairs, shared = pairs[enough], shared[enough]
    order = np.lexsort((pairs[:, 1], -shared, pairs[:, 0]))
    pairs = pairs[order]
    begins = np.flatnonzero(np.r_[True, pairs[1:, 0] != pairs[:-1, 0]]) if len(pairs) else np.zeros(0, np.int64)
    rank = np.arange(len(pairs)) - np.repeat(begins, np.diff(np.r_[begins, len(pairs)]))
    best: Int64 = pairs[rank < CANDIDATES]
    return best
