"""The keep rule: which of several documents that say the same is kept."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.documents import parquet
from tasks.documents.shards import read_shard
from tasks.similarity.shingles import Int64

LOWER_IS_BETTER = ("perplexity", "profanity")
"""Scores of clean of which the smallest is the best."""


def priorities(
    table: pa.Table, keep: str, source_order: Sequence[str], quality: str
) -> tuple[npt.NDArray[np.float64], int]:
    """For each document a number, float64; the smallest survives. With it, how many documents had what it takes.

    `longest`: all alike, so that the length decides. `source_priority`: the source's place in `source_order`, sources
    that are not named after all that are. `quality`: the number under `quality`, a column of the shard (clean
    writes its scores so) or else a key of the JSON in `meta`, the highest first, of LOWER_IS_BETTER the lowest; documents
    without one come last.
    """
    if keep == "source_priority":
        places = pc.index_in(table.column("source"), value_set=pa.array(source_order, pa.string()))
        found = len(places) - places.null_count
        return pc.fill_null(places, len(source_order)).to_numpy().astype(np.float64), found
    if keep == "quality":
        scores = _from_meta(table.column("meta"), quality)
        if quality in table.column_names:
            scores = pc.coalesce(table.column(quality).cast(pa.float64()), scores)
        scores = pc.if_else(pc.is_nan(scores), None, scores)
        found = len(scores) - scores.null_count
        worst_last = scores if quality in LOWER_IS_BETTER else pc.negate(scores)
        return pc.fill_null(worst_last, np.inf).to_numpy(), found
    return np.zeros(len(table)), len(table)


def _from_meta(meta: pa.ChunkedArray, key: str) -> pa.Array:
    found: list[float | None] = []
    for text in meta.to_pylist():
        content: Any = json.loads(text) if text and f'"{key}"' in text else {}
        value = content.get(key) if isinstance(content, dict) else None
        found.append(float(value) if isinstance(value, int | float) else None)
    return pa.array(found, pa.float64())


def write_priorities(
    shard: Path, folder: Path, keep: str, source_order: Sequence[str], quality: str
) -> tuple[Path, int]:
    """Write the `priorities` of a shard's documents; returns the file, and how many had what it takes."""
    columns = [name for name in parquet.read_schema(shard).names if name != "text"]
    numbers, scored = priorities(read_shard(shard, columns), keep, source_order, quality)
    target = folder / f"{shard.stem}.npy"
    np.save(target, numbers)
    return target, scored


def rank_documents(priority: npt.NDArray[np.float64], characters: Int64, ids: npt.NDArray[Any]) -> Int64:
    """Documents from the one that survives all others: by priority, then the longest, the smallest id, the first place."""
    return np.lexsort((np.arange(len(ids)), ids, -characters, priority))


def first_by_label(labels: Int64, order: Int64) -> Int64:
    """For each document, the first one in `order` that has its label; a negative label is the document's own."""
    own = np.flatnonzero(labels < 0)
    labels = labels.copy()
    labels[own] = np.arange(len(own)) + labels.max(initial=-1) + 1
    _, first, inverse = np.unique(labels[order], return_index=True, return_inverse=True)
    out = np.empty(len(labels), np.int64)
    out[order] = order[first[inverse.reshape(-1)]]
    return out
