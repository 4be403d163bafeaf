"""Instruction data in files: Alpaca, ShareGPT and `messages` records, in JSON, JSON Lines or Parquet, as messages."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tasks.conversations.conversation import Message
from tasks.conversations.turns import PROVENANCE_KEYS, RejectedRecord, message_of, refuse_unlearnable, with_system
from tasks.core.errors import UserError
from tasks.formats.compressed import DamagedFile
from tasks.formats.encodings.decode import decode_file
from tasks.formats.rows.arrow_rows import UNCONVERTIBLE, UnreadableRow
from tasks.formats.rows.json_rows import RowDecoder, parse_json_values
from tasks.formats.rows.parquet_rows import ParquetReader

MAX_ROW_BYTES = 1 << 30
"""Of a row of Parquet: these files are the user's own."""
MESSAGE_COLUMNS = (
    *("messages", "conversations", "instruction", "output", "prompt", "question"),
    *("chosen", "rejected", "chosen_messages", "rejected_messages"),
)
"""Without which a row says nothing."""
Format = Literal["auto", "alpaca", "sharegpt", "messages", "preference"]
"""preference: pairs, of tasks.instruct.preference_pairs."""
FORMAT_KEYS: dict[str, frozenset[str]] = {
    "alpaca": frozenset(("instruction", "input", "output", "history", "text")),  # text: all of it once more, rendered
    "sharegpt": frozenset(("conversations", "items")),
    "messages": frozenset(("messages",)),
}
"""The keys of a format, beside `system`, which each may have."""


def read_records(path: Path) -> Iterator[tuple[int, Any]]:
    """Number (from 1; in JSON Lines the line's) and content of each record; a line that is no JSON gives a `RejectedRecord`.

    `.jsonl` and `.ndjson` are read line by line, so that one broken line does not cost the file; `.json` holds a list;
    `.parquet` is read row by row.

    Raises:
        UserError: the file is of another kind or cannot be read at all.
    """
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            yield from _json_lines(path)
        case ".json":
            decoded = decode_file(path.read_bytes())
            try:
                records = parse_json_values(decoded.text if decoded else "")[0]
            except ValueError as error:
                raise UserError(f"{path}: not valid JSON ({error}). One record a line? Name it .jsonl") from None
            if not isinstance(records, list):
                raise UserError(f"{path}: must hold a list of records. One record a line? Name it .jsonl")
            yield from enumerate(records, 1)
        case ".parquet":
            yield from _parquet(path)
        case other:
            raise UserError(
                f"{path}: cannot read {other or 'a file without an ending'}; allowed: .jsonl, .ndjson, .json, .parquet"
            )


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    decoder = RowDecoder()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                for record in parse_json_values(decoder.decode(line).text):
                    yield number, record
            except (ValueError, RecursionError) as error:
                yield number, RejectedRecord("malformed", f"not JSON: {error}")


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with ParquetReader(path, MAX_ROW_BYTES) as table:
            for number, row in table.rows(MESSAGE_COLUMNS):
                if isinstance(row, DamagedFile):
                    raise row
                if isinstance(row, UnreadableRow):
                    yield number, RejectedRecord("malformed", row.detail)
                else:
                    yield number, {name: value for name, value in row.items() if value is not UNCONVERTIBLE}
    except (DamagedFile, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from error


def detect_format(record: Mapping[str, Any]) -> Format:
    """The format whose keys a record has.

    Raises:
        RejectedRecord: none.
    """
    if "messages" in record:
        return "messages"
    if "conversations" in record or "items" in record:
        return "sharegpt"
    if "instruction" in record and "output" in record:
        return "alpaca"
    keys = ", ".join(sorted(map(str, record))) or "none"
    raise RejectedRecord(
        "malformed", f"keys of no known format: {keys}. Known: messages; conversations; instruction, output"
    )


def to_messages(record: Any, format_: Format, ignored: Counter[str] | None = None) -> list[Message]:
    """The record as messages, not yet checked. Keys that say more than is learnt are counted in `ignored`.

    An Alpaca record's `history` (pairs of what was asked and answered) stands before it, and a record's `system` leads
    it in each format (LLaMA-Factory's forms).

    Raises:
        RejectedRecord: malformed (a key is missing, of another type, or names an unknown speaker), tools, not_text, weight, disliked.
    """
    ignored = Counter() if ignored is None else ignored
    if isinstance(record, RejectedRecord):
        raise record
    if not isinstance(record, Mapping):
        raise RejectedRecord("malformed", f"a record must be an object, found {type(record).__name__}")
    known = detect_format(record) if format_ == "auto" else format_
    refuse_unlearnable(record)
    turns = _alpaca(record) if known == "alpaca" else _list(record, _turns_key(record, known))
    messages = [said for number, turn in enumerate(turns, 1) if (said := message_of(turn, number, ignored))]
    rated = {"label"} if record.get("label") is True else set()  # a rating of the whole, which is good
    known_keys = FORMAT_KEYS[known] | PROVENANCE_KEYS | rated | {"system"}
    ignored.update(key for key, value in record.items() if key not in known_keys and value)
    return with_system(record.get("system"), messages)


def _alpaca(record: Mapping[str, Any]) -> list[dict[str, str]]:
    return [*instruction_turns(record), {"role": "assistant", "content": _text(record, "output")}]


def instruction_turns(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """What an Alpaca record asks, after its `history`.

    Raises:
        RejectedRecord: malformed.
    """
    pairs = record.get("history") or []
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise RejectedRecord("malformed", "history: must be a list of pairs of what was asked and answered")
    asked = [_text(record, "instruction"), _text(record, "input") if record.get("input") else ""]
    before = [
        {"role": role, "content": said}
        for pair in pairs
        for role, said in zip(("user", "assistant"), pair, strict=True)
    ]
    return [*before, {"role": "user", "content": "\n\n".join(filter(None, asked))}]  # as Stanford Alpaca joins them


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise RejectedRecord("malformed", f"{key}: must be text, found {type(value).__name__}")
    return value


def _turns_key(record: Mapping[str, Any], format_: str) -> str:
    return (
        "messages"
        if format_ == "messages"
        else "items"
        if "conversations" not in record and "items" in record
        else "conversations"
    )


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    turns = record.get(key)
    if not isinstance(turns, list):
        raise RejectedRecord("malformed", f"{key}: must be a list of objects")
    return turns
