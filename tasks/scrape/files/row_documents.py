"""Rows of files and data sets to documents: text or messages, and where a row came from."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from tasks.conversations.conversation import Message, render_conversation
from tasks.conversations.instruction_formats import FORMAT_KEYS, to_messages
from tasks.conversations.turns import RejectedRecord, message_of, refuse_unlearnable, with_system
from tasks.core.errors import UserError
from tasks.formats.encodings.decode import DecodedText


class WrongColumns(UserError):
    """A file of rows has none of the columns that were named, or one of another type."""


@dataclass(frozen=True)
class ScrapedDocument:
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

    def present_in(self, names: Collection[str]) -> bool:
        """Whether rows of these keys can say something: in one of the two, or as ShareGPT or Alpaca."""
        return bool({self.text, self.messages, *SHAREGPT_KEYS} & set(names)) or set(names) >= ALPACA_KEYS

    def missing_error(self, names: Sequence[str], path: Path) -> WrongColumns:
        """The error for a file with other columns."""
        return WrongColumns(
            f"{path}: has no column {self.text!r} or {self.messages!r}, only {', '.join(names) or 'none'}. "
            "Set text_column or messages_column."
        )

    def require(self, names: Sequence[str], path: Path) -> None:
        """Check that the columns of a file have them.

        Raises:
            WrongColumns: they have not, or one more than once.
        """
        if not self.present_in(names):
            raise self.missing_error(names, path)
        for name in (self.text, self.messages):
            if names.count(name) > 1:
                raise WrongColumns(f"{path}: has {names.count(name)} columns {name!r}. Give them names of their own.")


SHAREGPT_KEYS, ALPACA_KEYS = FORMAT_KEYS["sharegpt"], frozenset(("instruction", "output"))
"""The keys by which a row is known as ShareGPT's, any of them, or as Alpaca's, both."""


def json_default(value: object) -> str:
    """What JSON writes for values that it does not know."""
    return value.isoformat() if isinstance(value, datetime | date) else repr(value)


def unreadable_document(where: str, url: str, reason: str, detail: str) -> ScrapedDocument:
    """Something of which nothing could be read."""
    return ScrapedDocument(where, url, b"", "", reason=reason, detail=detail[:500])


def row_to_document(
    row: dict[str, Any],
    where: str,
    url: str,
    raw: bytes,
    columns: Columns,
    decoded: DecodedText | None = None,
    fetched_at: datetime | None = None,
) -> ScrapedDocument:
    """A row to a document. `raw` is what its id is made of; `decoded` how its bytes were read, if they were."""
    if isinstance(row.get("url"), str) and row["url"]:
        url = row["url"]
    label = decoded.label if decoded else None
    ignored: Counter[str] = Counter()
    try:
        is_instruction = _is_instruction(row, columns)
        messages = _instruction(row, ignored) if is_instruction else _messages(row, columns.messages, ignored)
    except RejectedRecord as problem:
        why = "malformed_messages" if problem.reason == "malformed" else problem.reason
        shown = raw.decode("utf-8", "backslashreplace")
        return ScrapedDocument(where, url, raw, shown, reason=why, detail=f"{where}: {problem.detail}")
    used = {"url", columns.text, columns.messages, "messages", *(["system"] if messages else [])}
    used |= FORMAT_KEYS["alpaca"] | SHAREGPT_KEYS if is_instruction else set()
    meta = {key: value for key, value in row.items() if key not in used and value is not None}
    meta |= decoded.meta if decoded else {}
    if messages is None:
        text = row.get(columns.text)
        if not isinstance(text, str):
            keys = ", ".join(sorted(map(str, row))[:12])
            detail = f"{where}: {columns.text!r} is {'missing' if text is None else 'no string'}; there are: {keys}"
            return ScrapedDocument(
                where, url, raw, raw.decode("utf-8", "backslashreplace"), reason="no_text", detail=detail
            )
        reason = None if text.strip() else "empty"
        return ScrapedDocument(
            where, url, raw, text, meta, reason, None if reason is None else where, label, fetched_at
        )
    return ScrapedDocument(
        where,
        url,
        raw,
        render_conversation(messages),
        {**meta, "messages": messages},
        encoding=label,
        fetched_at=fetched_at,
        repaired=tuple(f"{key}_left_out" for key in ignored.elements()),
    )


def _messages(row: dict[str, Any], column: str, ignored: Counter[str]) -> list[Message] | None:
    """The row's messages, None where it has none. In what order turns may come, instruct judges.

    Raises:
        RejectedRecord: they cannot be learnt from as they are.
    """
    turns = row.get(column)
    if turns is None:
        return None
    if not isinstance(turns, list) or not turns:
        raise RejectedRecord("malformed", f"{column!r} is no list with at least one message")
    refuse_unlearnable(row)
    messages = [said for number, turn in enumerate(turns, 1) if (said := message_of(turn, number, ignored))]
    return with_system(row.get("system"), messages)


def _is_instruction(row: dict[str, Any], columns: Columns) -> bool:
    """Whether a row without text and messages says what it says in the keys of ShareGPT or Alpaca."""
    if isinstance(row.get(columns.text), str) or row.get(columns.messages) is not None:
        return False
    turns = next((row[key] for key in SHAREGPT_KEYS if row.get(key)), None)
    return (isinstance(turns, list) and isinstance(turns[0], dict)) or row.keys() >= ALPACA_KEYS


def _instruction(row: dict[str, Any], ignored: Counter[str]) -> list[Message]:
    """The messages of such a row. What stands beside its turns stays in `meta`; only what a turn says more is left out."""
    more: Counter[str] = Counter()
    messages = to_messages(row, "auto", more)
    ignored.update({key: count for key, count in more.items() if key.startswith("messages.")})
    return messages
