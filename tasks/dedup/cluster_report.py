"""Clusters of duplicates: what the duplicates look like; for the report, and for people who want to see the clusters."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.paths import write_json
from tasks.dedup.levels import REASONS, Duplicates
from tasks.dedup.sketched_corpus import SketchedCorpus
from tasks.documents.shards import read_shard, write_shard
from tasks.similarity.shingles import Int64

LARGEST_CLUSTERS = 10
"""Clusters that the metrics name."""
MAX_SOURCES = 12
"""Sources in the overlap matrix: those with most removed documents."""
BINS = 20
MAX_CHARACTERS = 100
"""Of a title."""


def write_clusters(corpus: SketchedCorpus, found: Duplicates, path: Path) -> None:
    """One row a removed document, the largest clusters first: kept_id, id, both sources, reason, similarity, size."""
    sizes = np.bincount(found.kept, minlength=len(corpus.ids)) + 1
    order = np.lexsort((corpus.ids[found.removed], corpus.ids[found.kept], -sizes[found.kept]))
    removed, kept = found.removed[order], found.kept[order]
    names = np.array(corpus.sources or [""], dtype=object)
    table = {
        "kept_id": pa.array(corpus.ids[kept], pa.binary()).cast(pa.string()),
        "id": pa.array(corpus.ids[removed], pa.binary()).cast(pa.string()),
        "kept_source": pa.array(names[corpus.source[kept]], pa.string()),
        "source": pa.array(names[corpus.source[removed]], pa.string()),
        "reason": pa.array(np.array(REASONS, dtype=object)[found.reason[order]], pa.string()),
        "similarity": pa.array(found.similarity[order], pa.float64()),
        "cluster_size": pa.array(sizes[kept], pa.int64()),
    }
    write_shard(pa.table(table), path)


def write_largest(corpus: SketchedCorpus, found: Duplicates, shards: Sequence[Path], path: Path) -> None:
    """What the largest clusters are about, as a JSON list: id, url and title (or first words) of the document that is kept.

    That is text, so it stands beside the documents and not among the metrics, which git keeps for good.
    """
    rows = []
    for each in _largest(corpus, found):
        table = read_shard(shards[corpus.shard[each]], ["id", "url", "text", "meta"])
        row = table.slice(corpus.row[each], 1).to_pylist()[0]
        rows.append({"id": row["id"], "url": row["url"], "title": _title(row)})
    write_json(path, rows)


def _largest(corpus: SketchedCorpus, found: Duplicates) -> Int64:
    """The kept documents of the LARGEST clusters, the largest first."""
    sizes = np.bincount(found.kept, minlength=len(corpus.ids))
    clusters = np.flatnonzero(sizes)
    return clusters[np.lexsort((corpus.ids[clusters], -sizes[clusters]))][:LARGEST_CLUSTERS]


def _title(row: dict[str, Any]) -> str:
    """On one line, without characters that nobody sees: control, direction, lone surrogates."""
    meta = json.loads(row["meta"] or "{}")
    title = meta.get("title") if isinstance(meta, dict) else None
    text = title if isinstance(title, str) and title.strip() else (row["text"] or "")[: 2 * MAX_CHARACTERS]
    visible = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(visible.split())[:MAX_CHARACTERS]


def cluster_metrics(corpus: SketchedCorpus, found: Duplicates) -> dict[str, Any]:
    """For the metrics: the largest clusters, a histogram of the similarities, and who repeats whom among the sources.

    `similarity_histogram` counts near-duplicates and contained documents by twentieths, named by their lower end;
    `overlap` counts removed documents by their source and the source of the document that was kept.
    """
    sizes = np.bincount(found.kept, minlength=len(corpus.ids))
    measured = found.similarity[found.reason >= REASONS.index("near_duplicate")]
    bins = np.bincount(np.minimum((measured * BINS + 1e-9).astype(np.int64), BINS - 1), minlength=BINS)
    sources = len(corpus.sources)
    pairs = corpus.source[found.removed] * sources + corpus.source[found.kept]
    matrix = np.bincount(pairs, minlength=sources**2).reshape(sources, sources)
    shown = np.argsort(-(matrix.sum(0) + matrix.sum(1)), kind="stable")[:MAX_SOURCES]
    return {
        "largest_clusters": {
            corpus.ids[each].decode(): {
                "documents": int(sizes[each]) + 1,
                "source": corpus.sources[corpus.source[each]],
            }
            for each in _largest(corpus, found)
        },
        "similarity_histogram": {f"{n / BINS:.2f}": int(count) for n, count in enumerate(bins) if count},
        "overlap": {
            corpus.sources[i]: {corpus.sources[j]: int(matrix[i, j]) for j in sorted(shown) if matrix[i, j]}
            for i in sorted(shown)
            if matrix[i, shown].any()
        },
    }
