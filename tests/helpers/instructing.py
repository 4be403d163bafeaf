"""Running instruct on conversations and pages."""

import json
from pathlib import Path

from tasks.conversations.conversation import render
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import document_id, read_documents, write_documents
from tasks.instruct.stage import InstructParams, run


def talk(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]


def said(number: int, turns: int = 4) -> list[dict[str, str]]:
    return talk(*(f"This is what I say in turn {turn} of talk {number}, and nowhere else." for turn in range(turns)))


def document(messages=None, text=None, url="package:talk", source="talk"):
    text = render(messages) if text is None else text
    meta = {"messages": messages} if messages is not None else {}
    name = document_id(source, url, text.encode())
    return {"id": name, "text": text, "url": url, "source": source, "meta": meta}


def instruct(folder: Path, documents: list[dict], per_shard: int = 9, **params):
    for start in range(0, max(len(documents), 1), per_shard):
        write_documents(documents[start : start + per_shard], folder / "documents", prefix=f"{start:05d}-")
    return again(folder, folder / "documents", **params)


def again(folder: Path, documents: Path, name: str = "out", **params):
    outputs = Outputs(folder / name, folder / f"{name}.work")
    outputs.root.mkdir(parents=True)
    outputs.work.mkdir()
    references = {Path(file).name: folder / file for file in params.get("references", ())}
    metrics = run(
        InstructParams(**params),
        Inputs({"documents": documents, "evaluation": folder / "evaluation"} | references),
        outputs,
    )
    json.dumps(metrics, allow_nan=False)
    tables = {
        kind: read_documents(outputs.root / kind).to_pylist() for kind in ("train", "held_out", "removed", "split")
    }
    return tables, metrics


def reasons(tables):
    return sorted(row["reason"] for row in tables["removed"])
