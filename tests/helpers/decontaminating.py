"""Running decontaminate on texts and held-out items."""

import json
import random
from pathlib import Path

import pyarrow as pa

from tasks.conversations import conversation
from tasks.core.paths import Inputs, Outputs
from tasks.decontaminate.stage import DecontaminateParams, run
from tasks.documents.shards import read_documents, read_shard, shard_paths, write_documents, write_shard

RNG = random.Random(0)
WORDS = ["".join(RNG.choices("abcdefghijklmnopqrstuvwxyz", k=RNG.randint(2, 9))) for _ in range(3000)]


def prose(seed: int, words: int = 120) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(words))


def decontaminate(folder: Path, train: list[str], validation=(), items=(), name="out", per_shard=7, **params):
    """Run the stage over texts and held-out items (id, kind, messages); returns kept ids, removed rows, metrics."""
    rows = [{"id": f"t{n}", "text": text, "source": "s"} for n, text in enumerate(train)]
    rows += [{"id": f"v{n}", "text": text, "source": "s"} for n, text in enumerate(validation)]
    if not (folder / "documents").exists():
        for start in range(0, len(rows), per_shard):
            write_documents(rows[start : start + per_shard], folder / "documents", prefix=f"{start:05d}-")
        for shard in shard_paths(folder / "documents"):
            ids = read_shard(shard, ["id"])["id"].to_pylist()
            split = ["train" if name.startswith("t") else "validation" for name in ids]
            write_shard(pa.table({"id": ids, "split": split}), folder / "split" / shard.name)
        held_out = [{"id": i, "source": "s", "kind": kind, "messages": said} for i, kind, said in items]
        write_shard(pa.Table.from_pylist(held_out, schema=conversation.SCHEMA), folder / "held_out" / "0.parquet")
    outputs = Outputs(folder / name, folder / f"{name}.work")
    outputs.root.mkdir()
    outputs.work.mkdir()
    references = {Path(file).name: folder / file for file in params.get("references", ())}
    inputs = Inputs({key: folder / key for key in ("documents", "split", "held_out", "evaluation")} | references)
    metrics = run(DecontaminateParams(**params), inputs, outputs)
    json.dumps(metrics, allow_nan=False)
    kept, removed = read_documents(outputs.root / "documents"), read_documents(outputs.root / "removed").to_pylist()
    assert metrics["documents_in"] == len(rows) == len(kept) + len(removed)
    assert all((row["split"] == "train") == row["id"].startswith("t") for row in kept.to_pylist())
    assert all(row["reason"] == "contaminated" and row["matched"] and row["id"].startswith("t") for row in removed)
    return set(kept["id"].to_pylist()), {row["id"]: row for row in removed}, metrics
