"""Running dedup on rows, for the tests of its levels, rules and index."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.core.paths import Inputs, Outputs
from tasks.dedup.stage import DedupParams, run
from tasks.documents.shards import SCHEMA, read_documents, write_shard

Rows = list[dict[str, Any]]


def dedup(tmp_path: Path, shards: list[Rows], **params: Any) -> tuple[dict[str, str], dict[str, dict[str, Any]], Any]:
    """Run the stage; returns id → text of the kept, id → row of the removed, and the metrics."""
    folder = Path(tmp_path) / f"run{len(list(Path(tmp_path).iterdir()))}"
    for name in ("documents", "out", "work"):
        (folder / name).mkdir(parents=True)
    for number, rows in enumerate(shards):
        table = pa.Table.from_pylist([{"source": "s", **row} for row in rows], schema=SCHEMA)
        write_shard(table, folder / "documents" / f"{number:05d}.parquet")
    outputs = Outputs(folder / "out", folder / "work")
    metrics = run(DedupParams(**params), Inputs({"documents": folder / "documents"}), outputs)
    kept = {row["id"]: row["text"] for row in read_documents(folder / "out/documents").to_pylist()}
    removed = {row["id"]: row for row in read_documents(folder / "out/removed").to_pylist()}
    assert len(kept) + len(removed) == sum(map(len, shards))
    assert all(row["kept_id"] in kept and 0 <= row["similarity"] <= 1 for row in removed.values())
    return kept, removed, metrics


def text(seed: int, count: int = 80) -> str:
    return " ".join(words(random.Random(seed), count))


def words(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8))) for _ in range(count)]
