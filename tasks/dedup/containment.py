"""Containment: short documents that stand in longer ones; a small sample of shingles proposes, the exact share decides.

The `SAMPLE_SHINGLES` smallest shingle hashes of a document are a random sample of its shingles (bottom-k sketch, Broder 1997).
Where at least half of them occur in a larger document, the share of all its shingles is counted (containment).
"""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.core.parallel.engine import map_shards
from tasks.dedup.shingle_sets import gather_shingle_sets
from tasks.dedup.sketched_corpus import SketchedCorpus
from tasks.similarity import lsh, posting_lists
from tasks.similarity.shingles import Int64, UInt64

log = logging.getLogger(__name__)
SAMPLE_SHINGLES = 16
"""A document of containment 0.9 has at least half of its sample in the other with probability 0.99999 (binomial)."""
MAX_POSTINGS = 1000
"""Of a sampled shingle that stands in more documents, the largest so many are looked at."""
MAX_CANDIDATES = 64
"""Larger documents that are measured for each short one: those with most of its sample, of equals the largest."""


def find_contained(
    corpus: SketchedCorpus,
    documents: Int64,
    ranked: Int64,
    min_share: float,
    min_shingles: int,
    followers: Int64,
    work: Path,
) -> tuple[Int64, Int64, npt.NDArray[np.float64], int]:
    """Which of `documents` have at least the share `min_share` of their shingles in a larger one that is kept.

    Decided from the largest set down (then by rank): a document that is itself removed keeps no other out, so the
    container named always stays. `followers`, int64 [followers, 2], are documents that went earlier and the similar one
    among `documents` for which each did: that one goes only if they, too, stand in its container, and they go with it.
    Returns the documents to remove and their containers, int64, the shares, float64, and how many documents stay that a
    bound kept from being compared with every larger one.
    """
    short = documents[corpus.sizes[documents] >= min_shingles]
    if not len(short):
        return short, short, np.zeros(0), 0
    # From here on documents are numbers from the largest set down, of equals the best: an order that no shard decides.
    place = np.empty(len(ranked), np.int64)
    place[ranked] = np.arange(len(ranked))
    ordered = short[np.lexsort((place[short], -corpus.sizes[short]))]
    sizes = corpus.sizes[ordered]
    pairs, bounded = _pairs(corpus, ordered, sizes, work)
    shingles, starts = gather_shingle_sets(corpus, np.unique(ordered[pairs]), work / "contained.u64")
    share = lsh.containments(shingles, starts[ordered], sizes, pairs)
    pairs, share = pairs[share >= min_share], share[share >= min_share]
    behind, of_pair, behind_share = _behind(corpus, ordered[pairs], followers, work)
    left_out = np.zeros(len(pairs), np.bool_)
    left_out[of_pair[behind_share < min_share]] = True
    order = np.lexsort((place[ordered[pairs[:, 1]]], -share, pairs[:, 0]))
    gone: dict[int, int] = {}
    for k in order[~left_out[order]].tolist():
        inner, outer = pairs[k].tolist()
        if inner not in gone and outer not in gone:
            gone[inner] = k
    removed, chosen = np.fromiter(gone, np.int64), np.array(list(gone.values()), np.int64)
    bounded[removed] = False
    if unsure := int(bounded.sum()):
        log.warning(
            "dedup: %d documents share half of their sampled n-grams with more than %d larger ones. They were held "
            "against the %d with most of them, and stay; if the texts share much boilerplate, use the level paragraphs.",
            *(unsure, MAX_CANDIDATES, MAX_CANDIDATES),
        )
    along = np.isin(of_pair, chosen)
    everyone = np.concatenate([ordered[removed], behind[along]])
    containers = ordered[pairs[np.concatenate([chosen, of_pair[along]]), 1]]
    shares = np.concatenate([share[chosen], behind_share[along]])
    ascending = np.argsort(everyone)
    return everyone[ascending], containers[ascending], shares[ascending], unsure


def _behind(
    corpus: SketchedCorpus, pairs: Int64, followers: Int64, work: Path
) -> tuple[Int64, Int64, npt.NDArray[np.float64]]:
    """Who goes along if the first document of a pair goes for the second: each with the pair, and its share in the second."""
    followers = followers[np.lexsort((followers[:, 0], followers[:, 1]))]
    first, end = (np.searchsorted(followers[:, 1], pairs[:, 0], side) for side in ("left", "right"))
    counts = end - first
    of_pair = np.repeat(np.arange(len(pairs)), counts)
    within = np.arange(len(of_pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    behind = followers[first[of_pair] + within, 0]
    measured = np.stack([behind, pairs[of_pair, 1]], axis=1)
    shingles, starts = gather_shingle_sets(corpus, np.unique(measured), work / "followers.u64")
    return behind, of_pair, lsh.containments(shingles, starts, corpus.sizes, measured)


def _pairs(corpus: SketchedCorpus, ordered: Int64, sizes: Int64, work: Path) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """Which larger documents to measure for each, as `posting_lists.propose_containers` returns them."""
    number = np.full(len(corpus.ids), -1, np.int64)
    number[ordered] = np.arange(len(ordered))
    jobs = []
    first = np.searchsorted(corpus.shard, np.arange(len(corpus.names) + 1))
    for k, name in enumerate(corpus.names):
        here = slice(first[k], first[k + 1])
        np.save(work / f"sizes{k}.npy", np.stack([corpus.sizes[here], number[here]]))
        jobs.append((corpus.folder / f"{name}.u64", work / f"sizes{k}.npy"))
    borders = np.concatenate([[0], np.cumsum(np.minimum(sizes, SAMPLE_SHINGLES))])
    grams = np.empty(borders[-1], np.uint64)
    for path, about in jobs:
        _take_samples(path, about, borders, grams)
    sampled, times = np.unique(grams, return_counts=True)
    np.save(work / "sampled.npy", sampled)
    np.save(work / "several.npy", times > 1)
    found = list(map_shards(partial(sample_occurrences, work=work), jobs, "dedup: contained"))
    which, where = np.concatenate([np.load(path) for path in found], axis=1)
    numbers = np.searchsorted(sampled, grams)
    return posting_lists.propose_containers(numbers, borders, which, where, sizes, MAX_POSTINGS, MAX_CANDIDATES)


def _rows(about: Path) -> tuple[Int64, Int64, Int64]:
    """Of a shard's documents: where their shingles begin, how many they are, the documents' numbers (-1: left out)."""
    sizes, numbers = np.load(about)
    return np.cumsum(sizes) - sizes, sizes, numbers


def _take_samples(path: Path, about: Path, borders: Int64, grams: UInt64) -> None:
    """Put the smallest hashes of a shard's documents where `borders` say."""
    starts, _, numbers = _rows(about)
    starts, numbers = starts[numbers >= 0], numbers[numbers >= 0]
    if not len(numbers):
        return
    counts = borders[numbers + 1] - borders[numbers]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    hashes = np.memmap(path, np.uint64, "r")
    grams[np.repeat(borders[numbers], counts) + within] = hashes[np.repeat(starts, counts) + within]


def sample_occurrences(job: tuple[Path, Path], work: Path) -> Path:
    """Where the sampled hashes occur in a shard; writes int64 [2, hits]: number of the hash, number of the document.

    That a hash is where it was sampled says nothing, unless it was sampled of several documents.
    """
    path, about = job
    starts, sizes, numbers = _rows(about)
    out = about.with_suffix(".hits.npy")
    if not sizes[numbers >= 0].sum():
        np.save(out, np.zeros((2, 0), np.int64))
        return out
    sampled, several = (np.load(work / f"{name}.npy", mmap_mode="r") for name in ("sampled", "several"))
    hashes = np.memmap(path, np.uint64, "r")
    rows = np.repeat(np.arange(len(sizes)), sizes)
    at = np.minimum(np.searchsorted(sampled, hashes), len(sampled) - 1)
    own = np.arange(len(hashes)) - starts[rows] < SAMPLE_SHINGLES
    hit = (sampled[at] == hashes) & (numbers[rows] >= 0) & (several[at] | ~own)
    np.save(out, np.stack([at[hit], numbers[rows[hit]]]))
    return out
