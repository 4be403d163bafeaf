"""Instruction data in files: Alpaca, ShareGPT and `messages` records, in JSON, JSON Lines or Parquet, as messages."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tasks.core.errors import UserError
from tasks.text.messages import Rejected

Format = Literal["auto", "alpaca", "sharegpt", "messages"]
SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
"""FastChat's names of speakers; those of tools and pictures are none of a text chat."""


def read_records(path: Path) -> Iterator[tuple[int, Any]]:
    """Number (from 1; in JSON Lines the line's) and content of each record; a line that is no JSON gives a `Rejected`.

    `.jsonl` and `.ndjson` are read line by line, so that one broken line does not cost the file; `.json` holds a list;
    `.parquet` is read by `datasets`.

    Raises:
        UserError: the file is of another kind or cannot be read at all.
    """
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            yield from _json_lines(path)
        case ".json":
            try:
                records = json.loads(path.read_bytes())
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
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except ValueError as error:  # also bytes that are no UTF-8
                yield number, Rejected("malformed", f"not JSON: {error}")


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import datasets

    try:
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        yield from enumerate(rows, 1)
    except Exception as error:  # whatever pyarrow, fsspec or datasets raise
        raise UserError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from error


def detect(record: Mapping[str, Any]) -> Format:
    """The format whose keys a record has.

    Raises:
        Rejected: none.
    """
    if "messages" in record:
        return "messages"
    if "conversations" in record:
        return "sharegpt"
    if "instruction" in record and "output" in record:
        return "alpaca"
    keys = ", ".join(sorted(map(str, record))) or "none"
    raise Rejected("malformed", f"keys of no known format: {keys}. Known: messages; conversations; instruction, output")


def to_messages(record: Any, format_: Format) -> list[dict[str, Any]]:
    """The record as messages, not yet checked.

    Raises:
        Rejected: malformed: a key is missing, of another type, or names an unknown speaker.
    """
    if isinstance(record, Rejected):
        raise record
    if not isinstance(record, Mapping):
        raise Rejected("malformed", f"a record must be an object, found {type(record).__name__}")
    messages: list[dict[str, Any]]
    known = detect(record) if format_ == "auto" else format_
    match known:
        case "alpaca":
            asked = [_text(record, "instruction"), _text(record, "input") if record.get("input") else ""]
            return [
                {"role": "user", "content": "\n\n".join(filter(None, asked))},  # as Stanford Alpaca joins them
                {"role": "assistant", "content": _text(record, "output")},
            ]
        case "sharegpt":
            turns = _list(record, "conversations")
            messages = [{"role": _speaker(turn), "content": _text(turn, "value")} for turn in turns]
        case _:
            turns = _list(record, "messages")
            messages = [{"role": turn.get("role"), "content": turn.get("content")} for turn in turns]
    if record.get("system") and isinstance(record["system"], str):
        messages.insert(0, {"role": "system", "content": record["system"]})
    return messages


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise Rejected("malformed", f"{key}: must be text, found {type(value).__name__}")
    return value


def _list(record: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    turns = record.get(key)
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise Rejected("malformed", f"{key}: must be a list of objects")
    return turns


def _speaker(turn: Mapping[str, Any]) -> str:
    name = turn.get("from")
    if not isinstance(name, str) or name not in SHAREGPT_ROLES:
        raise Rejected("malformed", f"from: must be one of {', '.join(SHAREGPT_ROLES)}, found {name!r}")
    return SHAREGPT_ROLES[name]
