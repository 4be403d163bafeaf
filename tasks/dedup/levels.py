"""Deduplication levels: which documents of a sketched corpus are duplicates, of which; each level among what the last one left.

A document that is removed may stand for others (it had the same text as they): these follow it to the document that
it went for, so that `kept_id` always names one that stays.
"""

import logging
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.progress import Progress
from tasks.dedup.containment import find_contained
from tasks.dedup.keep_rule import first_by_label, rank_documents
from tasks.dedup.paragraphs import ParagraphRemovals
from tasks.dedup.shingle_sets import gather_shingle_sets
from tasks.dedup.sketched_corpus import SketchedCorpus
from tasks.dedup.sketches import SketchConfig
from tasks.similarity import lsh, shingles, star_clusters
from tasks.similarity.canonical_text import CANONICAL_FORM
from tasks.similarity.shingles import Int64, UInt64

log = logging.getLogger(__name__)
REMOVAL_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("kept_id", pa.string()),
        ("similarity", pa.float64()),
    ]
)
REASONS = ("", "same_url", "exact_duplicate", "near_duplicate", "contained", "repeated_paragraphs")
KEPT, URL, EXACT, NEAR, CONTAINED, REPEATED = range(6)
DETAIL = {
    URL: "same address as {}",
    EXACT: "same text as {}",
    NEAR: "similar to {}",
    CONTAINED: "stands in {}",
}
DETAIL_OF_CHAIN = {
    EXACT: "an exact duplicate",
    NEAR: "a near-duplicate",
    CONTAINED: "which stands in it",
    REPEATED: "whose paragraphs it has",
}


ShingleSets = tuple[UInt64, Int64 | None]
"""What `gather_shingle_sets` returned, if anything."""
NO_SHINGLE_SETS: ShingleSets = (np.zeros(0, np.uint64), None)


@dataclass(frozen=True)
class Duplicates:
    """Which documents go, in ascending order, and for which they go.

    Attributes:
        removed, kept: int64 [removed]: a document and the one that is kept in its place.
        reason: int8 [removed], index into REASONS.
        via: int64 [removed]: the document that it duplicates; not `kept` where that one is itself removed.
        similarity: float64 [removed]: exact Jaccard similarity to `kept`; for contained documents, and those made of
            repeated paragraphs, the share of them that is in it.
        details: more to say of a removed document.
    """

    removed: Int64
    kept: Int64
    reason: npt.NDArray[np.int8]
    via: Int64
    similarity: npt.NDArray[np.float64]
    metrics: dict[str, int]
    details: dict[int, str] = field(default_factory=dict)

    def centres(self) -> set[int]:
        """The documents that others went for which are like them, but not the same."""
        return set(self.kept[(self.reason == NEAR) | (self.reason == CONTAINED)].tolist())


@dataclass(frozen=True)
class DuplicateRules:
    """What counts as a duplicate; see `DedupParams` for the meaning of each."""

    levels: Collection[str]
    threshold: float
    bands: int
    clusters: str = "star"
    url_keep: str = "newest"
    containment: float = 0.9
    containment_shingles: int = 20


def find_duplicates(corpus: SketchedCorpus, rules: DuplicateRules, work: Path) -> Duplicates:
    """The duplicates of each level: same address, equal text, similar text, text that stands in another."""
    documents = len(corpus.ids)
    place = np.arange(documents)
    ranked = rank_documents(corpus.priority, corpus.characters, corpus.ids)
    via, reason = place.copy(), np.zeros(documents, np.int8)

    def remove(gone: Int64, stays: Int64, why: int) -> None:
        via[gone], reason[gone] = stays, why

    if "url" in rules.levels and corpus.url is not None and corpus.fetched_at is not None:
        preferred = ranked
        if rules.url_keep == "newest":
            preferred = ranked[np.argsort(-corpus.fetched_at[ranked], kind="stable")]
        elif rules.url_keep == "longest":
            preferred = ranked[np.argsort(-corpus.characters[ranked], kind="stable")]
        stays = first_by_label(corpus.url, preferred)
        gone = np.flatnonzero(stays != place)
        remove(gone, stays[gone], URL)
    if "exact" in rules.levels:
        stays = first_by_label(np.where(reason == KEPT, corpus.digests, -1), ranked)
        gone = np.flatnonzero(stays != place)
        remove(gone, stays[gone], EXACT)
    work_done, sizes, gathered = {"compared": 0, "capped": 0}, np.zeros(0, np.int64), NO_SHINGLE_SETS
    if "near" in rules.levels:
        distinct = ranked[reason[ranked] == KEPT]  # an order that no shard decides
        centres, gathered, work_done = _near_duplicates(corpus, distinct, rules, work)
        sizes = np.bincount(centres) if len(centres) else sizes
        gone = np.flatnonzero(centres != np.arange(len(centres)))
        remove(distinct[gone], distinct[centres[gone]], NEAR)
    shares = np.zeros(documents)
    if "contained" in rules.levels:
        left = np.flatnonzero(reason == KEPT)
        alike = np.flatnonzero((reason == NEAR) & (rules.clusters == "star"))
        bounds = rules.containment, rules.containment_shingles
        followers = np.stack([alike, via[alike]], axis=1)
        gone, stays, share, work_done["unsure"] = find_contained(corpus, left, ranked, *bounds, followers, work)
        remove(gone, stays, CONTAINED)
        shares[gone] = share
    found = _resolve_chains(corpus, via, reason, shares, work, gathered)
    cluster_sizes = np.bincount(found.kept, minlength=documents)
    metrics = {
        "clusters": int((cluster_sizes > 0).sum()),
        "near_duplicate_clusters": int((sizes > 1).sum()),
        "largest": int(cluster_sizes.max(initial=0)) + 1 if documents else 0,
        "too_short_for_shingles": int((corpus.sizes == 0).sum()),
        "pairs_compared": work_done["compared"],
    }
    if "contained" in rules.levels:
        metrics["contained_not_fully_compared"] = work_done["unsure"]
    return replace(found, metrics=metrics)


def add_repeated_paragraphs(
    corpus: SketchedCorpus, found: Duplicates, decided: ParagraphRemovals, work: Path
) -> Duplicates:
    """`found` with the documents that repeated paragraphs leave too little of."""
    via, reason = np.arange(len(corpus.ids)), np.zeros(len(corpus.ids), np.int8)
    shares = np.zeros(len(via))
    via[found.removed], reason[found.removed], shares[found.removed] = found.via, found.reason, found.similarity
    for document, (keeper, share, _) in decided.documents.items():
        via[document], reason[document], shares[document] = keeper, REPEATED, share
    details = {
        each: f"{left} characters that no better document has" for each, (_, _, left) in decided.documents.items()
    }
    return replace(_resolve_chains(corpus, via, reason, shares, work), metrics=found.metrics, details=details)


def _resolve_chains(
    corpus: SketchedCorpus,
    via: Int64,
    reason: npt.NDArray[np.int8],
    shares: npt.NDArray[np.float64],
    work: Path,
    gathered: ShingleSets = NO_SHINGLE_SETS,
) -> Duplicates:
    """Follow each removed document to the one that stays, and measure how similar the two are."""
    kept = via
    for _ in REASONS:  # a chain is at most one step a level
        kept = kept[kept]
    removed = np.flatnonzero(reason)
    similarity = _similarity(corpus, via[removed], kept[removed], removed, reason[removed], work, gathered)
    direct = (reason[removed] >= CONTAINED) & (via[removed] == kept[removed])
    similarity[direct] = shares[removed[direct]]
    return Duplicates(removed, kept[removed], reason[removed], via[removed], similarity, {})


def _near_duplicates(
    corpus: SketchedCorpus, distinct: Int64, rules: DuplicateRules, work: Path
) -> tuple[Int64, ShingleSets, dict[str, int]]:
    """Of each of the documents the place of the one that stays for it, int64 [distinct], the sets compared, and counts.

    `distinct` are in the order of their rank, so that of a component the first one stays.
    """

    def keys() -> Iterator[UInt64]:
        for band in range(rules.bands):
            yield corpus.keys[band][distinct]

    sizes = corpus.sizes[distinct]
    with Progress("dedup: candidates", total=rules.bands, unit="bands") as progress:
        sharing = lsh.candidate_documents(_with_progress(keys(), progress), np.flatnonzero(sizes))
    gathered = gather_shingle_sets(corpus, np.sort(distinct[sharing]), work / "candidates.u64")
    with Progress("dedup: comparing", total=rules.bands, unit="bands") as progress:
        compare = star_clusters.star_centres if rules.clusters == "star" else lsh.clusters
        centres, done = compare(
            _with_progress(keys(), progress), gathered[0], gathered[1][distinct], sizes, rules.threshold
        )
    if rules.clusters == "component":
        centres = first_by_label(centres, np.arange(len(centres)))
    if done["capped"]:
        log.warning(
            "dedup: %d times a document shared a band with more than %d others that stay and was not compared with all. "
            "If the texts share much boilerplate, raise dedup.rows.",
            *(done["capped"], lsh.BUCKET_COMPARISONS),
        )
    return centres, gathered, done


def _with_progress(items: Iterator[UInt64], progress: Progress) -> Iterator[UInt64]:
    for each in items:
        yield each
        progress.advance()


def _similarity(
    corpus: SketchedCorpus,
    via: Int64,
    kept: Int64,
    removed: Int64,
    reason: npt.NDArray[np.int8],
    work: Path,
    gathered: ShingleSets,
) -> npt.NDArray[np.float64]:
    """Exact Jaccard similarity of each removed document to the one that is kept; 1 for equal texts, however short."""
    one = np.where(reason == EXACT, via, removed)  # equal texts have equal sets: fewer of them to fetch
    same = corpus.digests[one] == corpus.digests[kept]
    out = np.ones(len(removed))
    pairs = np.stack([one[~same], kept[~same]], axis=1)
    everything, starts = gathered
    if len(pairs):
        if starts is None or (starts[pairs] < 0).any():
            everything, starts = gather_shingle_sets(corpus, np.unique(pairs), work / "removed.u64")
        out[~same] = lsh.jaccard_similarities(everything, starts, corpus.sizes, pairs)
    return out


def write_removals(corpus: SketchedCorpus, found: Duplicates, target: Path) -> None:
    """Write the rows to remove, and why, as Arrow IPC: a record batch a shard, in the order of the shards."""
    borders = np.searchsorted(corpus.shard[found.removed], np.arange(len(corpus.names) + 1))
    reasons = np.zeros(len(corpus.ids), np.int8)
    reasons[found.removed] = found.reason
    with pa.ipc.new_file(str(target), REMOVAL_SCHEMA) as writer:
        for first, end in pairwise(borders.tolist()):
            rows = [
                {
                    "row": corpus.row[found.removed[k]],
                    "reason": REASONS[found.reason[k]],
                    "detail": found.details.get(int(found.removed[k]))
                    if found.via[k] == found.kept[k]
                    else f"{DETAIL[found.reason[k]].format(corpus.ids[found.via[k]].decode())}, "
                    f"{DETAIL_OF_CHAIN[int(reasons[found.via[k]])]}",
                    "kept_id": corpus.ids[found.kept[k]].decode(),
                    "similarity": found.similarity[k],
                }
                for k in range(first, end)
            ]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=REMOVAL_SCHEMA))


def read_removals(target: Path, number: int) -> pa.Table:
    """The rows of the shard of that number that `write_removals` wrote."""
    with pa.memory_map(str(target)) as file:
        return pa.Table.from_batches([pa.ipc.open_file(file).get_batch(number)])


def minhash_description(config: SketchConfig) -> dict[str, Any]:
    """Everything that two signatures must have in common to be comparable."""
    common = {
        "bands": config.bands,
        "normaliser": CANONICAL_FORM,
        "shingler": shingles.SHINGLER,
        "words_per_shingle": config.ngram,
        "word_hash": shingles.WORD_HASH,
        "shingle_hash": shingles.SHINGLE_HASH,
        "unicode": unicodedata.unidata_version,
    }
    if config.method == "simhash":
        return {**common, "scheme": "simhash", "bits_per_band": config.simhash_bits, "stretched_by": "SplitMix64"}
    return {
        **common,
        "scheme": shingles.MINHASH_SCHEME,
        "permutations": config.bands * config.rows,
        "seed": config.seed,
        "rows": config.rows,
        "minhash_input": "the lower 32 bits of the shingle hash",
    }
