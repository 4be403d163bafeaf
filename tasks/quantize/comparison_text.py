"""The text that exports of a model are compared on: held-out chat for a tuned model, held-out documents for a base model.

Where neither is there, training documents take their place: whether an export is the model it was made from shows on any
text. How well it predicts does not, so what was compared on is always named.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.conversations.conversation import render_conversation
from tasks.documents.shards import read_shard, shard_paths
from tasks.held_out.held_out_items import documents_of_split, validation_documents
from tasks.held_out.split import TRAIN
from tasks.tokens.chat_encoder import ChatEncoder

CHAT, DOCUMENTS, TRAINING = "held-out conversations", "held-out documents", "training documents"


@dataclass(frozen=True)
class ComparisonText:
    """Prompts (token ids, at most `context` - 1 of them) and texts, and which text it is: CHAT, DOCUMENTS or TRAINING."""

    name: str
    prompts: list[list[int]]
    texts: list[str]

    @property
    def bytes(self) -> int:
        """Of the texts, in UTF-8."""
        return sum(len(text.encode()) for text in self.texts)


def choose_text(
    encoder: ChatEncoder, tuned: bool, held_out: Path, folder: Path, prompts: int, max_bytes: int, context: int
) -> ComparisonText:
    """At most `prompts` prompts and `max_bytes` of text, always the same: of `held_out` (chat items) for a tuned model, else
    of the documents in `folder`.
    """
    if tuned and (rows := _items(held_out)):
        asked = [encoder.prompt(row["messages"][:-1], context - 1) for row in rows[:prompts]]
        rows.sort(key=lambda row: row["kind"] != "conversation")
        return ComparisonText(CHAT, asked, _cut((render_conversation(row["messages"]) for row in rows), max_bytes))
    name, kept = DOCUMENTS, _cut((document.text for document in validation_documents(folder)), max_bytes)
    if not kept:
        name, kept = TRAINING, _cut((document.text for document in documents_of_split(folder, TRAIN)), max_bytes)
    return ComparisonText(name, _openings(encoder, kept, prompts, context - 1), kept)


def _items(folder: Path) -> list[dict[str, Any]]:
    rows = [row for path in shard_paths(folder) for row in read_shard(path, ["id", "kind", "messages"]).to_pylist()]
    return sorted(rows, key=lambda row: row["id"])


def _cut(texts: Iterable[str], most: int) -> list[str]:
    """The first texts that together have `most` UTF-8 bytes; the last is cut at a character. At least one character."""
    kept: list[str] = []
    for text in texts:
        part = text.encode()[:most].decode(errors="ignore") or ("" if kept else text[:1])
        if not part:
            break
        kept.append(part)
        most -= len(part.encode())
    return kept


def _openings(encoder: ChatEncoder, texts: Sequence[str], most: int, longest: int) -> list[list[int]]:
    """Pieces of texts, each led by the start token: of every text the first piece, then of every text the second, ..."""
    room = longest - 1
    pieces = [
        (first, number, [encoder.start, *ids[first : first + room]])
        for number, ids in enumerate(encoder.texts(texts))
        for first in range(0, len(ids), room)
    ]
    return [ids for *_, ids in sorted(pieces)[:most]]
