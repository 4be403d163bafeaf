"""Running evaluate on documents and held-out items."""

import json
from pathlib import Path

import pyarrow as pa

from tasks.conversations.conversation import SCHEMA
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import SCHEMA as DOCUMENTS
from tasks.documents.shards import write_documents
from tasks.evaluate.stage import EvaluateParams, run

QUICK = {"max_bytes": 3_000, "max_new_tokens": 8, "batch": 4, "prompts": ("Hello!", "What is near?"), "samples": 3}


def documents(folder: Path, rows) -> Path:
    write_documents(rows, folder, schema=DOCUMENTS.append(pa.field("split", pa.string())))
    return folder


def held_out(folder: Path, rows) -> Path:
    write_documents(rows, folder, schema=SCHEMA)
    return folder


def evaluate(folder: Path, models, data, **changes):
    outputs = Outputs(folder / "out", folder / "work")
    outputs.root.mkdir(parents=True)
    outputs.work.mkdir()
    metrics = run(
        EvaluateParams(**{**QUICK, **changes}), Inputs({"evaluation": folder / "evaluation", **models, **data}), outputs
    )
    json.dumps(metrics, allow_nan=False)
    return outputs.root, metrics
