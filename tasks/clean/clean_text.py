"""A document cleaned: each of its texts normalized and its PII masked; a conversation message by message, then rendered again."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tasks.clean.normalize import normalize
from tasks.clean.pii_mask import PiiKind, mask_pii
from tasks.clean.quality_filters import Removal
from tasks.conversations.conversation import ROLE_MARKERS, Message, render_conversation, trim_content
from tasks.documents.sections import OFFSET_KINDS, map_sections

Row = dict[str, Any]
PERSONAL = ("from", "author")
"""Keys of `meta` that name people: masked as the text is."""


def clean_row(
    row: Row, unescape: bool, kinds: Sequence[PiiKind], counters: dict[str, Counter[str]]
) -> tuple[str, bool]:
    """Normalize and mask the text of a row in place, counting masks and messages. Returns the text to filter, and whether it is that of
    a conversation.

    Raises:
        Removal: its messages are malformed.
    """

    def one(text: str) -> str:
        text, masked = mask_pii(normalize(text, unescape), kinds)
        counters["masked"].update(masked)
        return text

    meta = json.loads(row["meta"]) if row["meta"] else {}
    if not isinstance(meta, dict) or "messages" not in meta:
        row["text"] = map_sections(row["text"] or "", meta, one) if isinstance(meta, dict) else one(row["text"] or "")
        if meta and (said := meta.keys() & {*OFFSET_KINDS, *PERSONAL}):
            meta |= {name: one(meta[name]) for name in said & {*PERSONAL} if isinstance(meta[name], str)}
            row["meta"] = json.dumps(meta, ensure_ascii=False, sort_keys=True)
        return row["text"], False
    meta["messages"] = clean_messages(meta["messages"], one, counters["messages"])
    row["meta"] = json.dumps(meta, ensure_ascii=False, sort_keys=True)
    row["text"] = render_conversation(meta["messages"])
    return "\n".join(message["content"] for message in meta["messages"]), True


def clean_messages(messages: Any, clean_one: Callable[[str], str], counters: Counter[str]) -> list[Message]:
    """Clean each content. A message left empty goes; two neighbours that then have one role become one message."""
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and m.get("role") in ROLE_MARKERS and isinstance(m.get("content"), str) for m in messages
    ):
        raise Removal("malformed_conversation", "messages need a role of system, user, assistant and a text as content")
    cleaned: list[Message] = []
    counters["in"] += len(messages)
    gap = False
    for message in messages:
        content = trim_content(clean_one(message["content"]))
        if not content:
            counters["empty"] += 1
            gap = True
            continue
        if gap and cleaned and cleaned[-1]["role"] == message["role"]:
            cleaned[-1] = {"role": message["role"], "content": f"{cleaned[-1]['content']}\n{content}"}
            counters["joined"] += 1
        else:
            cleaned.append({"role": message["role"], "content": content})
        gap = False
    counters["out"] += len(cleaned)
    return cleaned
