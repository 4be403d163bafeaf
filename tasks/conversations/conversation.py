"""Conversations: the shape of a message, and the plain text that a conversation is as a document."""

import json
import re
from collections.abc import Sequence
from typing import Literal, TypedDict

import pyarrow as pa

Role = Literal["system", "user", "assistant"]


class Message(TypedDict):
    """One turn, in the shape TRL and the chat templates take."""

    role: Role
    content: str


SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # of the document it came from; questions of one document add `#<number>`
        ("source", pa.string()),
        ("kind", pa.string()),  # "conversation" or "question"
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("rejected", pa.string()),  # a reply that people liked less than the last message; null where nobody compared
    ]
)

ROLE_MARKERS: dict[str, str] = {"system": "System: ", "user": "User: ", "assistant": "Assistant: "}
ROLE_MARKER = re.compile(rf"^(?:{'|'.join(map(re.escape, ROLE_MARKERS.values()))})", re.MULTILINE)
"""The speaker's name before a turn of a rendered conversation."""


BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")


def trim_content(content: str) -> str:
    """A turn's text without blank lines around it and spaces at its end; its first line keeps its indentation."""
    return BLANK_LINES.sub("", content).rstrip()


def render_conversation(messages: Sequence[Message]) -> str:
    """The conversation as a text document: one paragraph a turn, led by its role."""
    return "\n".join(ROLE_MARKERS[message["role"]] + message["content"] for message in messages)


def messages_of(meta: str | None) -> list[Message] | None:
    """The messages that a document's `meta` JSON carries, or None where it is no conversation."""
    if not meta or '"messages"' not in meta:
        return None
    messages: list[Message] | None = json.loads(meta).get("messages")
    return messages
