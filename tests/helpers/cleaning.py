"""Running clean on an archive and on documents."""

import random
from pathlib import Path
from typing import Any

from tasks.clean.stage import CleanParams, run
from tasks.core.params import validate
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import REMOVED_SCHEMA, document_id, read_documents, write_documents

PROSE = "The quick brown fox jumps over the lazy dog while seven wizards watch from a distant hill and say nothing."


def clean(
    tmp_path: Path,
    warc: bytes | None = None,
    rows: list[dict[str, Any]] | None = None,
    params: CleanParams | None = None,
    declared: dict[str, Path] | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Run the stage; returns metrics, documents by URL, removed by URL."""
    folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    scrape = folder / "scrape"
    for name in ("scrape/web/site", "out", "work"):
        (folder / name).mkdir(parents=True)
    (scrape / "sources.json").write_text('{"site": {"kind": "web", "licence": "CC0"}}')
    if warc is not None:
        (scrape / "web/site/00000.warc.gz").write_bytes(warc)
    if rows is not None:
        write_documents(rows, scrape / "documents")
    metrics = run(
        params or CleanParams(),
        Inputs({"scrape": scrape, **(declared or {})}),
        Outputs(folder / "out", folder / "work"),
    )
    kept, removed = (read_documents(folder / "out" / name) for name in ("documents", "removed"))
    assert removed.schema.names == REMOVED_SCHEMA.names
    assert metrics["documents_in"] == len(kept) + len(removed)
    return metrics, *({row["url"]: row for row in table.to_pylist()} for table in (kept, removed))


def row(url: str, text: str, messages: Any = None) -> dict[str, Any]:
    meta = {"messages": messages} if messages is not None else {}
    return {"id": document_id("s", url, text.encode()), "url": url, "source": "s", "text": text, "meta": meta}


GOOD = [
    "river",
    "mountain",
    "forest",
    "village",
    "morning",
    "story",
    "harvest",
    "winter",
    "garden",
    "teacher",
    "letter",
    "journey",
    "evening",
    "music",
    "bread",
]
POOR = [
    "casino",
    "bonus",
    "winner",
    "cheap",
    "pills",
    "click",
    "offer",
    "discount",
    "jackpot",
    "viagra",
    "subscribe",
    "crypto",
    "profit",
    "loan",
    "free",
]


def sentence(words: list[str], rng: random.Random, n: int = 40) -> str:
    return " ".join(f"the {rng.choice(words)} of a {rng.choice(words)} is here" for _ in range(n // 7)) + "."


def document(source: str, number: int, text: str, **meta: Any) -> dict[str, Any]:
    url = f"http://{source}.org/{number}"
    return {"id": document_id(source, url, text.encode()), "url": url, "source": source, "text": text, "meta": meta}


def clean_documents(
    folder: Path, rows: list[dict[str, Any]], **block: Any
) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """Run the stage on documents; returns metrics, kept rows, removed rows."""
    for name in ("scrape", "out", "work"):
        (folder / name).mkdir(parents=True)
    write_documents(rows[: len(rows) // 2], folder / "scrape/documents", "a")
    write_documents(rows[len(rows) // 2 :], folder / "scrape/documents", "b")
    declared = {name: Path(name) for name in ("labels.jsonl", "bad.jsonl", "none.jsonl")}
    params = validate(CleanParams, block, "params.yaml: clean")
    metrics = run(
        params, Inputs({"scrape": folder / "scrape", **declared}, "clean"), Outputs(folder / "out", folder / "work")
    )
    kept, removed = (read_documents(folder / "out" / name).to_pylist() for name in ("documents", "removed"))
    assert {row["id"] for row in kept} | {row["id"] for row in removed} == {row["id"] for row in rows}
    assert len(kept) + len(removed) == len(rows) == metrics["documents_in"]
    assert metrics["documents_out"] == len(kept) == sum(metrics["languages"].values())
    return metrics, kept, removed
