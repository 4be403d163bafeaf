"""Held-out items: what models are measured on; the validation documents and the held-out questions, a bounded choice that never moves."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from tasks.conversations.conversation import Message, messages_of
from tasks.documents.shards import read_shard, shard_paths
from tasks.held_out.split import TRAIN, VALIDATION

log = logging.getLogger(__name__)
OPENING_CHARACTERS = 60


@dataclass(frozen=True)
class HeldOutDocument:
    """A document with text."""

    id: str
    source: str
    text: str
    conversation: bool


@dataclass(frozen=True)
class HeldOutQuestion:
    """A held-out question: what is asked and what was expected."""

    id: str
    prompt: list[Message]
    expected: str


def _rank(number: str) -> str:
    return hashlib.blake2b(number.encode(), digest_size=16).hexdigest()


def validation_documents(folder: Path) -> list[HeldOutDocument]:
    """All documents of the validation split that have text, in an order that only their ids decide."""
    return sorted(documents_of_split(folder, VALIDATION), key=lambda document: (_rank(document.id), document.id))


def document_openings(folder: Path, most: int) -> list[str]:
    """The first words of at most `most` documents, validation's if there are any, for a model to go on with."""
    chosen = validation_documents(folder)[:most] or list(islice(documents_of_split(folder, TRAIN), most))
    return [opening for document in chosen if (opening := _opening(document.text))]


def _opening(text: str) -> str:
    start = " ".join(text[: 4 * OPENING_CHARACTERS].split())
    if len(start) <= OPENING_CHARACTERS:
        return start
    start = start[:OPENING_CHARACTERS]
    return start.rpartition(" ")[0] or start  # not amid a word, where words have spaces between them


def documents_of_split(folder: Path, split: str) -> Iterator[HeldOutDocument]:
    """The documents of a split that have text, as they lie in the shards, of which one is held at a time."""
    for shard in shard_paths(folder):
        table = read_shard(shard, ["id", "source", "text", "meta", "split"])
        for row in table.filter(pc.equal(table["split"], split)).to_pylist():
            if row["text"]:
                conversation = messages_of(row["meta"]) is not None
                yield HeldOutDocument(row["id"], row["source"] or "", row["text"], conversation)


def within_bytes(documents: list[HeldOutDocument], most: int) -> list[HeldOutDocument]:
    """Of each source, the first documents that together stay within `most` UTF-8 bytes; at least its smallest one."""
    by_source: dict[str, list[HeldOutDocument]] = defaultdict(list)
    for document in documents:
        by_source[document.source].append(document)
    chosen = []
    for source in sorted(by_source):
        size, kept = 0, []
        for document in by_source[source]:
            if (grown := size + len(document.text.encode())) <= most:
                size = grown
                kept.append(document)
        chosen += kept or [min(by_source[source], key=lambda document: len(document.text.encode()))]
    return chosen


def held_out_questions(folder: Path, most: int) -> tuple[list[HeldOutQuestion], int]:
    """At most `most` held-out questions in an order that only their ids decide, and how many there are."""
    found: list[HeldOutQuestion] = []
    for shard in shard_paths(folder):
        table = read_shard(shard, ["id", "kind", "messages"])
        rows: list[dict[str, Any]] = table.filter(pc.equal(table["kind"], "question")).to_pylist()
        for row in rows:
            *prompt, answer = row["messages"]
            found.append(HeldOutQuestion(row["id"], prompt, answer["content"]))
    found.sort(key=lambda question: (_rank(question.id), question.id))
    return found[:most], len(found)
