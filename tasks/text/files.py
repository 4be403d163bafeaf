"""Local files to documents: JSONL, Parquet and plain text. What cannot be used comes out as well, with the reason."""

import codecs
import glob
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import UserError
from tasks.text.conversation import Message, Role, render

Format = Literal["jsonl", "parquet", "text", "html"]
SUFFIXES: dict[str, Format] = {
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".parquet": "parquet",
    **dict.fromkeys((".txt", ".text", ".md", ".rst"), "text"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
}
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MAX_CONTROL_SHARE = 0.01
BATCH_ROWS = 1000


@dataclass(frozen=True)
class Item:
    """A document, or with a `reason` something that is none.

    `content` is the raw content that the document's id is made of; `where` names file and line or row.
    """

    where: str
    url: str
    content: bytes
    text: str
    meta: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    detail: str | None = None


def find(patterns: Sequence[str], root: Path, wanted: str, where: str) -> list[tuple[Path, Format]]:
    """The files that match the globs, sorted, each once, with their format (`wanted`, or by suffix if that is `auto`).

    Raises:
        UserError: a glob matches no file, or a suffix is unknown.
    """
    found: dict[Path, Format] = {}
    for pattern in patterns:
        paths = [Path(match) for match in glob.glob(str(root / pattern), recursive=True)]  # noqa: PTH207  absolute patterns too
        paths = [path for path in paths if path.is_file()]
        if not paths:
            raise UserError(f"{where}: paths: {pattern!r} matches no file under {root}")
        for path in paths:
            kind = SUFFIXES.get(path.suffix.lower()) if wanted == "auto" else wanted
            if kind is None:
                raise UserError(
                    f"{where}: {path}: the suffix {path.suffix!r} does not tell the format. "
                    f"Set format, or name the files {', '.join(sorted(SUFFIXES))}."
                )
            found[path] = kind  # type: ignore[assignment]
    return sorted(found.items())


def file_url(path: Path, root: Path) -> str:
    """The `file:` URL: relative to the project where the file lies in it, so that it is the same in every checkout."""
    absolute = path.absolute()
    if absolute.is_relative_to(root.absolute()):
        return "file:" + quote(absolute.relative_to(root.absolute()).as_posix())
    return absolute.as_uri()


def read(path: Path, kind: Format, root: Path, text_column: str, messages_column: str) -> Iterator[Item]:
    """The items of one file, in its order.

    Raises:
        UserError: a Parquet file is damaged, or has neither column.
    """
    url = file_url(path, root)
    if kind == "jsonl":
        return _jsonl(path, url, text_column, messages_column)
    if kind == "parquet":
        return _parquet(path, url, text_column, messages_column)
    return iter([_text(path, url)])


def _text(path: Path, url: str) -> Item:
    content = path.read_bytes()
    text = decode(content)
    if text is None:
        return Item(str(path), url, content, repr(content[:2000]), reason="unknown_encoding", detail="bytes of no text")
    if not text.strip():
        return Item(str(path), url, content, text, reason="empty", detail="no text in the file")
    return Item(str(path), url, content, text)


def decode(content: bytes) -> str | None:
    """Bytes to text: by byte order mark, else as UTF-8, else as what it looks like; None if it looks like no text.

    No text is what its guessed encoding does not fit, or what has more than 1% control characters.
    """
    from resiliparse.parse.encoding import detect_encoding

    marked = [name for mark, name in MARKS if content.startswith(mark)][:1]
    for name in marked or ["utf-8", detect_encoding(content) or "utf-8"]:
        try:
            text = content.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
        controls = sum(unicodedata.category(c) == "Cc" for c in text) - sum(map(text.count, "\t\n\r\f"))
        return text if controls <= MAX_CONTROL_SHARE * len(text) else None
    return None


def _jsonl(path: Path, url: str, text_column: str, messages_column: str) -> Iterator[Item]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not line.strip():
                continue
            where, row_url = f"{path}, line {number}", f"{url}#L{number}"
            raw = line.rstrip(b"\r\n")
            try:
                row = json.loads(raw)
                json.dumps(row, ensure_ascii=False).encode()  # a lone surrogate escape is no text
            except (ValueError, RecursionError) as error:
                shown = raw.decode("utf-8", "backslashreplace")
                yield Item(where, row_url, raw, shown, reason="broken_json", detail=f"{where}: {error}"[:500])
                continue
            if not isinstance(row, dict):
                detail = f"{where}: {type(row).__name__}, expected an object"
                yield Item(where, row_url, raw, raw.decode(), reason="broken_json", detail=detail)
                continue
            yield _row(row, where, row_url, raw, text_column, messages_column)


def _parquet(path: Path, url: str, text_column: str, messages_column: str) -> Iterator[Item]:
    number = 0
    try:
        file = pq.ParquetFile(path)
        columns = set(file.schema_arrow.names)
        if not columns & {text_column, messages_column}:
            raise UserError(
                f"{path}: has no column {text_column!r} or {messages_column!r}, only {', '.join(sorted(columns))}. "
                "Set text_column or messages_column."
            )
        for batch in file.iter_batches(BATCH_ROWS):
            for row in batch.to_pylist():
                number += 1
                raw = json.dumps(row, ensure_ascii=False, sort_keys=True, default=_plain).encode()
                yield _row(
                    json.loads(raw), f"{path}, row {number}", f"{url}#R{number}", raw, text_column, messages_column
                )
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet after row {number} ({error}). Replace the file.") from None


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime | date) else repr(value)


def _row(row: dict[str, Any], where: str, url: str, raw: bytes, text_column: str, messages_column: str) -> Item:
    if isinstance(row.get("url"), str) and row["url"]:
        url = row["url"]
    messages = _messages(row, messages_column)
    used = {"url", text_column, messages_column, "messages"}
    meta = {key: value for key, value in row.items() if key not in used and value is not None}
    if messages is None:
        text = row.get(text_column)
        if not isinstance(text, str):
            detail = f"{where}: {text_column!r} is {'missing' if text is None else 'no string'}"
            return Item(where, url, raw, raw.decode("utf-8", "backslashreplace"), reason="no_text", detail=detail)
        reason = None if text.strip() else "empty"
        return Item(where, url, raw, text, meta, reason, None if reason is None else where)
    if isinstance(messages, str):
        detail = f"{where}: {messages}"
        return Item(
            where, url, raw, raw.decode("utf-8", "backslashreplace"), reason="malformed_messages", detail=detail
        )
    return Item(where, url, raw, render(messages), {**meta, "messages": messages})


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
