"""Rows of files and data sets to documents: text or messages, and where a row came from."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from tasks.core.errors import UserError
from tasks.text.conversation import Message, Role, render
from tasks.text.encoding import Decoded


class WrongColumns(UserError):
    """A file of rows has none of the columns that were named, or one of another type."""


ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Item:
    """A document, or with a `reason` something that is none.

    `content` is the raw content that the document's id is made of; `where` names file and line or row; `encoding`, where
    bytes were decoded, says how; `fetched_at` when it came over the network; `repaired` what was mended or left out of it.
    """

    where: str
    url: str
    content: bytes
    text: str
    meta: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    detail: str | None = None
    encoding: str | None = None
    fetched_at: datetime | None = None
    repaired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Which keys of a row hold its text and its messages."""

    text: str
    messages: str


def plain(value: object) -> str:
    """What JSON writes for values that it does not know."""
    return value.isoformat() if isinstance(value, datetime | date) else repr(value)


def lost(where: str, url: str, reason: str, detail: str) -> Item:
    """Something of which nothing could be read."""
    return Item(where, url, b"", "", reason=reason, detail=detail[:500])


def row_item(
    row: dict[str, Any],
    where: str,
    url: str,
    raw: bytes,
    columns: Columns,
    decoded: Decoded | None = None,
    fetched_at: datetime | None = None,
) -> Item:
    """A row to a document. `raw` is what its id is made of; `decoded` how its bytes were read, if they were."""
    if isinstance(row.get("url"), str) and row["url"]:
        url = row["url"]
    label = decoded.label if decoded else None
    messages = _messages(row, columns.messages)
    used = {"url", columns.text, columns.messages, "messages"}
    meta = {key: value for key, value in row.items() if key not in used and value is not None}
    meta |= decoded.note if decoded else {}
    if messages is None:
        text = row.get(columns.text)
        if not isinstance(text, str):
            detail = f"{where}: {columns.text!r} is {'missing' if text is None else 'no string'}"
            return Item(where, url, raw, raw.decode("utf-8", "backslashreplace"), reason="no_text", detail=detail)
        reason = None if text.strip() else "empty"
        return Item(where, url, raw, text, meta, reason, None if reason is None else where, label, fetched_at)
    if isinstance(messages, str):
        detail = f"{where}: {messages}"
        return Item(
            where, url, raw, raw.decode("utf-8", "backslashreplace"), reason="malformed_messages", detail=detail
        )
    return Item(
        where, url, raw, render(messages), {**meta, "messages": messages}, encoding=label, fetched_at=fetched_at
    )


def _messages(row: dict[str, Any], column: str) -> list[Message] | str | None:
    """The row's messages. None: it has none. A string: what is wrong with them; in what order turns may come, instruct judges."""
    turns = row.get(column)
    if turns is None:
        return None
    if not isinstance(turns, list) or not turns:
        return f"{column!r} is no list with at least one message"
    messages: list[Message] = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            return f"message {number} has no text as its content"
        role = ROLES.get(str(turn.get("role")))
        if role is None:
            return f"message {number} has the role {turn.get('role')!r}, expected one of {', '.join(ROLES)}"
        messages.append({"role": role, "content": turn["content"]})
    return messages
