"""Remove repeated documents: first the exactly equal, then the nearly equal; of each cluster one survives.

Exact: equal after case folding and collapsing of white space. Near: MinHash signatures of word n-grams (Broder 1997)
are banded to find candidates, and the exact Jaccard similarity of the n-gram sets decides (Lee et al. 2022,
"Deduplicating Training Data Makes Language Models Better", arXiv:2107.06499, found near-duplicates this way).

Memory of the process that searches: 0.27 GB per million documents for the levels url, exact and near; beside it, `contained`
takes 0.9 GB per million documents (and up to 3 KB for each that shares text with 64 larger ones), and `paragraphs` 0.1 GB
per million paragraphs.
"""

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from tasks.core.errors import UserError
from tasks.core.number_format import format_counts
from tasks.core.parallel.engine import map_shards
from tasks.core.parallel.worker_pool import preload_workers
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.documents.removal_warnings import warn_of_removals
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, cast_to_schema, read_shard, shard_paths, write_shard
from tasks.documents.source_counts import count_by_source, funnel_metrics

log = logging.getLogger(__name__)
LEVEL_REASONS = {
    "url": "same_url",
    "exact": "exact_duplicate",
    "near": "near_duplicate",
    "contained": "contained",
    "paragraphs": "repeated_paragraphs",
}
DECIDING_PARAMS = {
    LEVEL_REASONS["near"]: "threshold",
    LEVEL_REASONS["contained"]: "containment",
    LEVEL_REASONS["paragraphs"]: "paragraph_left",
    LEVEL_REASONS["exact"]: "levels",
    LEVEL_REASONS["url"]: "levels",
}
"""How a reason of removal begins → the parameter that decides."""


class DedupParams(StageParams):
    """Removal of documents that repeat others, by address, by text, by similarity and by containment."""

    levels: list[Literal["url", "exact", "near", "contained", "paragraphs"]] = Field(
        default=["exact", "near"],
        min_length=1,
        description="What repeats: the address, the text, most of the text, a text within a longer one, paragraphs.",
    )
    threshold: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Jaccard similarity of the word n-gram sets from which on two documents are duplicates.",
    )
    clusters: Literal["star", "component"] = Field(
        "star",
        description="star: what goes is as similar as `threshold` to a document that stays; component: whatever a chain of "
        "similar documents joins is one cluster, of which one stays.",
    )
    ngram: int = Field(5, ge=1, le=50, description="Words in a shingle. Shorter documents are compared exactly only.")
    sketch: Literal["minhash", "simhash"] = Field(
        "minhash", description="What proposes the pairs that are then compared exactly."
    )
    bands: int = Field(25, ge=1, le=1000, description="Bands of the index: more find more candidates.")
    rows: int = Field(5, ge=1, le=100, description="Minima in a band: more make candidates fewer and more alike.")
    simhash_bits: int = Field(11, ge=1, le=32, description="simhash: bits in a band, in place of rows.")
    seed: int = Field(1, ge=0, le=2**32 - 1, description="Seed of the MinHash permutations.")
    keep: Literal["longest", "source_priority", "quality"] = Field(
        "longest", description="Which duplicate stays; of equals the longest, then the one of the smallest id."
    )
    source_order: list[str] = Field(default=[], description="source_priority: names of sources, the best first.")
    quality: str = Field(
        "quality",
        min_length=1,
        description="quality: the column, or key in meta, with the score; the highest stays, of perplexity and profanity the "
        "lowest.",
    )
    url_keep: Literal["newest", "longest", "keep"] = Field(
        "newest", description="Which document of an address stays: the newest, the longest, or as keep says."
    )
    containment: float = Field(
        0.9, ge=0.5, le=1, description="contained: share of a document's word n-grams that stand in a longer one."
    )
    containment_shingles: int = Field(
        20, ge=1, description="contained: documents of fewer distinct word n-grams are left alone."
    )
    paragraph_separator: Literal["line", "blank_line"] = Field(
        "blank_line", description="paragraphs: what ends one, any line break or an empty line."
    )
    paragraph_characters: int = Field(60, ge=1, description="paragraphs: shorter ones may repeat.")
    paragraph_left: int = Field(
        100, ge=0, description="paragraphs: a document of which fewer characters are left is removed."
    )
    index: str | None = Field(
        None,
        description="Folder where sketches outlive the run, so that only new shards are sketched (the search is done "
        "anew); null: none.",
    )

    @model_validator(mode="after")
    def _checked(self) -> "DedupParams":
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("levels: names a level twice")
        if (self.keep == "source_priority") != bool(self.source_order):
            raise ValueError("keep: source_priority and source_order belong together: set both or neither")
        return self


def run(params: DedupParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Read `documents`; write `documents`, `removed` (with `kept_id` and `similarity`), `minhash.json`, `clusters`, `largest`.

    A cluster's survivor is the best by `keep`, then its longest text, then the one of the smallest id; nothing depends
    on the documents' order, their shards or the number of workers. `kept_id` always names a document that was kept.
    Similarity is measured between the document that goes and the one kept in its place. In `clusters: star` no document
    goes by a chain: it is as similar as the threshold to one that stays, or as much of it as `containment` says stands in
    one; in `component` a chain of similar documents is one cluster, whose ends may share nothing.
    """
    preload_workers("tasks.dedup.sketches", "tasks.dedup.shingle_sets", "tasks.similarity.warm_kernels")
    from tasks.dedup import keep_rule, levels, paragraphs, sketched_corpus, sketches
    from tasks.dedup.cluster_report import cluster_metrics, write_clusters, write_largest
    from tasks.similarity import kernels

    recall = _candidate_probability(params)
    sketched, removals, work = outputs.work / "sketches", outputs.work / "verdicts", outputs.work / "search"
    ranked = outputs.work / "priorities"
    for folder in (removals, work, ranked):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    if params.index is not None:
        sketched = Path(params.index)
    sketched.mkdir(parents=True, exist_ok=True)
    kernels.compile_kernels()
    shards = shard_paths(inputs["documents"])
    config = sketches.SketchConfig(
        **{key: getattr(params, key) for key in ("ngram", "bands", "rows", "seed", "simhash_bits")},
        method=params.sketch,
        urls="url" in params.levels,
        sets="contained" in params.levels,
    )
    sketch = partial(sketches.sketch, folder=sketched, config=config)
    counts = list(map_shards(sketch, shards, "dedup: signatures"))
    outputs.timings["shards_already_sketched"] = sum(shard["known"] for shard in counts)
    priorities = None
    if params.keep != "longest":
        rank = partial(
            keep_rule.write_priorities,
            folder=ranked,
            keep=params.keep,
            source_order=params.source_order,
            quality=params.quality,
        )
        written = list(map_shards(rank, shards, "dedup: scores"))
        if not sum(scored for _, scored in written):
            raise UserError(_nothing_to_keep_by(params))
        priorities = [path for path, _ in written]
    corpus = sketched_corpus.load_corpus(sketched, counts, shards, params.ngram, params.bands, work, priorities)
    rules = levels.DuplicateRules(
        **{key: getattr(params, key) for key in ("levels", "threshold", "bands", "url_keep", "clusters")},
        **{key: getattr(params, key) for key in ("containment", "containment_shingles")},
    )
    found = levels.find_duplicates(corpus, rules, work)
    shortened: dict[str, int] = {}
    if "paragraphs" in params.levels:
        paragraph_rules = paragraphs.ParagraphRules(
            params.paragraph_separator, params.paragraph_characters, params.paragraph_left
        )
        needed = found.centres() if params.clusters == "star" else ()
        decided = paragraphs.find_repeated_paragraphs(
            shards, corpus, found.removed, needed, paragraph_rules, removals, work
        )
        found, shortened = levels.add_repeated_paragraphs(corpus, found, decided, work), decided.metrics
    levels.write_removals(corpus, found, removals / "verdicts.arrow")
    divide = partial(_apply_removals, removals=removals, outputs=outputs.root)
    kept = list(map_shards(divide, list(enumerate(shards)), "dedup: writing"))
    write_json(outputs / "minhash.json", levels.minhash_description(config))
    write_clusters(corpus, found, outputs / "clusters.parquet")
    write_largest(corpus, found, shards, outputs / "largest.json")
    metrics = {**_metrics(params, counts, kept, found.metrics), **cluster_metrics(corpus, found)}
    if shortened:
        metrics["paragraphs"] = shortened
    metrics["candidate_probability_at_threshold"] = round(recall, 6)
    log.info(
        "dedup: %d documents in, %d out; removed: %s",
        *(metrics["documents_in"], metrics["documents_out"], format_counts(metrics["removed"])),
    )
    warn_of_removals("dedup", metrics["sources"], outputs / "removed", DECIDING_PARAMS, params)
    return metrics


def _candidate_probability(params: DedupParams) -> float:
    """Chance that a pair at the threshold is compared at all; warns where it is low."""
    from tasks.similarity import lsh

    if params.sketch == "simhash":
        recall, rows = lsh.simhash_probability(params.threshold, params.bands, params.simhash_bits), "simhash_bits"
    else:
        recall, rows = lsh.candidate_probability(params.threshold, params.bands, params.rows), "rows"
    if recall < 0.98 and "near" in params.levels:
        log.warning(
            "dedup: with %d bands of %d %s only %.0f%% of the pairs at similarity %g are ever compared. "
            "Raise dedup.bands or lower dedup.%s.",
            *(params.bands, getattr(params, rows), rows.replace("_", " "), 100 * recall, params.threshold, rows),
        )
    return recall


def _nothing_to_keep_by(params: DedupParams) -> str:
    if params.keep == "source_priority":
        named = ", ".join(params.source_order)
        return f"params.yaml: dedup.source_order: no document is of a source named there ({named}). See scrape.sources."
    return (
        f"params.yaml: dedup.quality: no document has a number {params.quality!r}, neither as a column nor in meta. "
        "Have clean score the documents (params.yaml: clean.quality), name another score, or set dedup.keep to longest."
    )


def _apply_removals(numbered: tuple[int, Path], removals: Path, outputs: Path) -> dict[str, Any]:
    """Write a shard's documents that are kept, and those that are removed; returns counts by source and reason."""
    from tasks.dedup.levels import read_removals

    number, shard = numbered
    table, rows = cast_to_schema(read_shard(shard)), read_removals(removals / "verdicts.arrow", number)
    removed_rows = rows.column("row")
    mask = pc.is_in(pa.array(range(len(table)), pa.int64()), value_set=removed_rows.combine_chunks())
    removed = table.filter(mask)
    if (shorter := removals / f"{shard.stem}.text.parquet").exists():
        table = _with_texts(table, read_shard(shorter))
    kept = table.filter(pc.invert(mask))
    for name in REMOVED_SCHEMA.names[len(SCHEMA) :]:
        column = rows.column(name) if name in rows.column_names else pa.nulls(len(removed))
        removed = removed.append_column(name, column.cast(REMOVED_SCHEMA.field(name).type))
    write_shard(kept.select(SCHEMA.names).cast(SCHEMA), outputs / "documents" / shard.name)
    write_shard(removed.select(REMOVED_SCHEMA.names).cast(REMOVED_SCHEMA), outputs / "removed" / shard.name)
    reasons = {row["values"].as_py(): row["counts"].as_py() for row in pc.value_counts(removed.column("reason"))}
    return {"sources": count_by_source(kept), "removed": reasons}


def _with_texts(table: pa.Table, shorter: pa.Table) -> pa.Table:
    """`table` with the `text` and `meta` of some rows replaced."""
    mask = np.zeros(len(table), np.bool_)
    mask[shorter.column("row").to_numpy()] = True
    for name in ("text", "meta"):
        old, new = table.column(name).combine_chunks(), shorter.column(name).combine_chunks()
        table = table.set_column(table.column_names.index(name), name, pc.replace_with_mask(old, pa.array(mask), new))
    return table


def _metrics(
    params: DedupParams, counts: list[dict[str, Any]], kept: list[dict[str, Any]], clusters: dict[str, int]
) -> Metrics:
    removed = {LEVEL_REASONS[level]: 0 for level in params.levels}
    for shard in kept:
        for reason, count in shard["removed"].items():
            removed[reason] += count
    sizes = funnel_metrics([shard["sources"] for shard in counts], [shard["sources"] for shard in kept], removed)
    thresholds = {"near": params.threshold, "contained": params.containment}
    decided = {LEVEL_REASONS[level]: value for level, value in thresholds.items() if level in params.levels}
    return {**sizes, "clusters": clusters, "thresholds": decided}
