"""Running instruct on conversations and pages."""

import json
from pathlib import Path

from tasks.conversations.conversation import render_conversation
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import document_id, read_documents, write_documents
from tasks.instruct.stage import InstructParams, run


def talk(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]


def said(number: int, turns: int = 4) -> list[dict[str, str]]:
    return talk(*(f"This is what I say in turn {turn} of talk {number}, and nowhere else." for turn in range(turns)))


def document(messages=None, text=None, url="package:talk", source="talk"):
    text = render_conversation(messages) if text is None else text
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


PAGE = """Python 3.11.7 [main, GCC 12.2.0]
Module Index : Topics : Keywords

shelf (version 1.0)	index
/usr/lib/python3.11/shelf.py
Module Reference

Keeps books on shelves. It is fast.

Classes

builtins.object
Shelf

class Shelf(builtins.object)
Shelf(width=3)

A place where books stand, e.g. Novels and poems.
More of it.

Methods defined here:
__init__(self, width=3)
Initialize self.  See help(type(self)) for accurate signature.
close(self)
close(self) -> None

Put the books away.
find(self, title)
>>> shelf.find("x")
open(self, /, *, force=False) -> bool
Open the shelf
with both hands. Then read.
Methods inherited from builtins.object:
wipe(self)
Clean everything off it.

Functions

_hidden(x)
Do what nobody sees.
aim(book)
lower case is no sentence.
burn(book) -> None
Never do this to a book!
count(*shelves, start: int = 0) -> int from builtins.type
Return how many books the given shelves hold.
zip(a)
Return a zip.

Data

__all__ = ['Shelf']
"""


def pages(count: int):
    return [document(None, text=f"Page {number}.", url=f"file:{number}") for number in range(count)]
