"""Running evaluate on documents and held-out items."""

import json
from pathlib import Path

import pyarrow as pa

from tasks.conversations.conversation import SCHEMA
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import SCHEMA as DOCUMENTS
from tasks.documents.shards import write_documents
from tasks.evaluate.stage import EvaluateParams, run
from tasks.model.model_pointer import write_pointer

QUICK = {"max_bytes": 3_000, "max_new_tokens": 8, "batch": 4, "prompts": ("Hello!", "What is near?"), "samples": 3}


def documents(folder: Path, rows) -> Path:
    write_documents(rows, folder, schema=DOCUMENTS.append(pa.field("split", pa.string())))
    return folder


def held_out(folder: Path, rows) -> Path:
    write_documents(rows, folder, schema=SCHEMA)
    return folder


def nothing_preferred(folder: Path, finetune: Path) -> Path:
    """What `prefer` leaves beside the data in `folder` where it had nothing to do."""
    pointer = folder / "prefer"
    pointer.mkdir(exist_ok=True)
    write_pointer(pointer, finetune, "prefer.method is null")
    return pointer


def evaluate(folder: Path, models, data, **changes):
    outputs = Outputs(folder / "out", folder / "work")
    outputs.root.mkdir(parents=True)
    outputs.work.mkdir()
    inputs = {
        "evaluation": folder / "evaluation",
        "prefer": nothing_preferred(folder, models["finetune"]),
        **models,
        **data,
    }
    metrics = run(EvaluateParams(**{**QUICK, **changes}), Inputs(inputs), outputs)
    json.dumps(metrics, allow_nan=False)
    return outputs.root, metrics
