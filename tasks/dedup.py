"""Remove repeated documents: first the exactly equal, then the nearly equal; of each cluster one survives.

Exact: equal after case folding and collapsing of white space. Near: MinHash signatures of word n-grams (Broder 1997)
are banded to find candidates, and the exact Jaccard similarity of the n-gram sets decides (Lee et al. 2022,
"Deduplicating Training Data Makes Language Models Better", arXiv:2107.06499, found near-duplicates this way).
"""

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tasks.core.engine import map_shards
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.core.stage import stage_main
from tasks.text.documents import REMOVED_SCHEMA, SCHEMA, read_shard, shard_paths, write_shard
from tasks.text.sizes import by_source, funnel

log = logging.getLogger(__name__)


class DedupParams(StageParams):
    """Exact and near-duplicate removal."""

    threshold: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Jaccard similarity of the word n-gram sets from which on two documents are duplicates.",
    )
    ngram: int = Field(5, ge=1, le=50, description="Words in a shingle. Shorter documents are compared exactly only.")
    bands: int = Field(25, ge=1, le=1000, description="Bands of the MinHash index: more find more candidates.")
    rows: int = Field(5, ge=1, le=100, description="Minima in a band: more make candidates fewer and more alike.")
    seed: int = Field(1, ge=0, le=2**32 - 1, description="Seed of the MinHash permutations.")


def run(params: DedupParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Read `documents`; write `documents`, `removed` (with `kept_id` and `similarity`) and `minhash.json`.

    A cluster's survivor is its longest text, then the one of the smallest id; nothing depends on the documents'
    order, their shards or the number of workers. `kept_id` always names a document that was kept.
    """
    from tasks.text import duplicates, lsh

    recall = lsh.candidate_probability(params.threshold, params.bands, params.rows)
    if recall < 0.98:
        log.warning(
            "dedup: with %d bands of %d rows only %.0f%% of the pairs at similarity %g are ever compared. "
            "Raise dedup.bands or lower dedup.rows.",
            *(params.bands, params.rows, 100 * recall, params.threshold),
        )
    sketches, verdicts = outputs.work / "sketches", outputs.work / "verdicts"
    for folder in (sketches, verdicts):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    duplicates.prepare()
    shards = shard_paths(inputs["documents"])
    sketch = partial(
        duplicates.sketch, folder=sketches, ngram=params.ngram, bands=params.bands, rows=params.rows, seed=params.seed
    )
    counts = list(map_shards(sketch, shards, "dedup: signatures"))
    corpus = duplicates.load(sketches, [path.stem for path in shards])
    found = duplicates.find(corpus, params.bands, params.threshold)
    duplicates.write_verdicts(corpus, found, verdicts)
    kept = list(map_shards(partial(_divide, verdicts=verdicts, outputs=outputs.root), shards, "dedup: writing"))
    write_json(outputs / "minhash.json", duplicates.description(params.ngram, params.bands, params.rows, params.seed))
    metrics = _metrics(counts, kept, found.metrics)
    metrics["candidate_probability_at_threshold"] = round(recall, 6)
    log.info(
        "dedup: %d documents in, %d out; removed %s",
        *(metrics["documents_in"], metrics["documents_out"], metrics["removed"]),
    )
    return metrics


def _divide(shard: Path, verdicts: Path, outputs: Path) -> dict[str, Any]:
    """Write a shard's documents that are kept, and those that are removed; returns counts by source and reason."""
    table, verdict = read_shard(shard), read_shard(verdicts / f"{shard.stem}.parquet")
    removed_rows = verdict.column("row")
    mask = pc.is_in(pa.array(range(len(table)), pa.int64()), value_set=removed_rows.combine_chunks())
    kept, removed = table.filter(pc.invert(mask)), table.filter(mask)
    for name in REMOVED_SCHEMA.names[len(SCHEMA) :]:
        column = verdict.column(name) if name in verdict.column_names else pa.nulls(len(removed))
        removed = removed.append_column(name, column.cast(REMOVED_SCHEMA.field(name).type))
    write_shard(kept.select(SCHEMA.names).cast(SCHEMA), outputs / "documents" / shard.name)
    write_shard(removed.select(REMOVED_SCHEMA.names).cast(REMOVED_SCHEMA), outputs / "removed" / shard.name)
    reasons = {row["values"].as_py(): row["counts"].as_py() for row in pc.value_counts(removed.column("reason"))}
    return {"sources": by_source(kept), "removed": reasons}


def _metrics(counts: list[dict[str, Any]], kept: list[dict[str, Any]], clusters: dict[str, int]) -> Metrics:
    removed = {"exact_duplicate": 0, "near_duplicate": 0}
    for shard in kept:
        for reason, count in shard["removed"].items():
            removed[reason] += count
    sizes = funnel([shard["sources"] for shard in counts], [shard["sources"] for shard in kept], removed)
    return {**sizes, "clusters": clusters}


if __name__ == "__main__":
    stage_main(run)
