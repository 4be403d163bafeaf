"""Running pack on texts."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import SCHEMA, write_documents
from tasks.pack.stage import PackParams, run

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog,", "née", "Größe", "日本", "🙂"]


def documents(folder: Path, texts: dict[str, list[str]], per_shard: int = 7) -> Path:
    schema = SCHEMA.append(pa.field("split", pa.string()))
    rows = [
        {"id": f"{split}{number}", "source": "s", "text": text, "split": split}
        for split, group in texts.items()
        for number, text in enumerate(group)
    ]
    for shard, start in enumerate(range(0, max(len(rows), 1), per_shard)):
        write_documents(rows[start : start + per_shard], folder, prefix=f"{shard:03d}-", schema=schema)
    return folder


def pack(tmp_path: Path, folder: Path, tokenizer: Path, context_length: int = 32, name: str = "out", **params):
    outputs = Outputs(tmp_path / name, tmp_path / f"{name}.work")
    outputs.root.mkdir()
    outputs.work.mkdir(exist_ok=True)
    chosen = PackParams(context_length=context_length, **params)
    metrics = run(chosen, Inputs({"documents": folder, "tokenizer": tokenizer}), outputs)
    json.dumps(metrics, allow_nan=False)
    return outputs.root, metrics


def prose(seed: int, count: int, longest: int = 60) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(1, longest))) for _ in range(count)]
