"""A user's own evaluation set: questions with answers, multiple choice and plain text, in the files of the folder `evaluation`.

instruct and decontaminate hold every file of the folder against what is trained on; evaluate scores those that params name.
What a record is shows by its keys (`tasks.held_out.evaluation_items`); a file of text is one item.
"""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.conversations.instruction_formats import read_records
from tasks.conversations.turns import RejectedRecord
from tasks.core.errors import UserError
from tasks.formats.symlinks import contained_matches, paths_within
from tasks.held_out.benchmark_items import BenchmarkItem
from tasks.held_out.evaluation_items import Item, TextItem, parse_item

FOLDER = "evaluation"
TEXT_SUFFIXES = (".txt", ".text", ".md")
RECORD_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
TABLE_SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t|"
COLUMNS = frozenset(("text", "question"))
"""Of which a table has one, by which its delimiter shows."""


def benchmark_items(folder: Path) -> list[BenchmarkItem]:
    """Every item of every file in `folder`, as what training text is held against.

    Raises:
        UserError: see `read_file`.
    """
    return [
        BenchmarkItem(item.file, item.number, item.texts())
        for path in files_of(folder)
        for item in read_file(path, folder)
    ]


def chosen_files(root: Path, patterns: Sequence[str]) -> list[Path]:
    """The files that `evaluate.files` names, paths or globs from `root`; a folder stands for all that is in it.

    Raises:
        UserError: nothing has a name. The folder itself may be empty.
    """
    chosen: dict[Path, None] = {}
    for pattern in patterns:
        folder = root / pattern
        found = files_of(folder) if folder.is_dir() else _globbed(root, pattern)
        if not found and Path(pattern) != Path(FOLDER):
            raise UserError(f"params.yaml: evaluate.files: no file matches {pattern}")
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _globbed(root: Path, pattern: str) -> list[Path]:
    return contained_matches((path for path in sorted(root.glob(pattern)) if path.is_file()), root / pattern)


def files_of(folder: Path) -> list[Path]:
    """All files in a folder and its folders, hidden ones passed over, by name."""
    paths = paths_within((path for path in folder.rglob("*") if path.is_file()), folder)
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def read_file(path: Path, folder: Path) -> Iterator[Item]:
    """The items of a file in `folder`, each with its number: of a JSON Lines file the line, of others the record from 1.

    Raises:
        UserError: the file is of another kind, cannot be read, holds nothing, or has a record that is no item.
    """
    name = f"{FOLDER}/{path.relative_to(folder).as_posix()}"
    ending, number = path.suffix.lower(), 0
    try:
        if ending in TEXT_SUFFIXES:
            number = 1
            yield TextItem(name, 1, _text(path))
            return
        for number, record in _table(path) if ending in TABLE_SUFFIXES else read_records(path):
            yield parse_item(record, name, number)
    except RejectedRecord as rejected:
        raise UserError(f"{name}, record {number}: {rejected.detail}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name}: cannot be read ({error})") from None
    except UserError as error:
        if ending in (*RECORD_SUFFIXES, *TABLE_SUFFIXES, *TEXT_SUFFIXES):
            raise
        allowed = ", ".join((*RECORD_SUFFIXES, *TABLE_SUFFIXES, *TEXT_SUFFIXES))
        raise UserError(
            f"{name}: cannot be read as an evaluation file ({allowed}). Move it out of {FOLDER}/"
        ) from error
    if not number:
        raise UserError(f"{name}: holds no item")


def _text(path: Path) -> str:
    text = path.read_text(encoding="utf-8-sig")
    if not text.strip():
        raise RejectedRecord("malformed", "the file has no text")
    return text


def _table(path: Path) -> Iterator[tuple[int, Any]]:
    """Records of a CSV or TSV file with a header: text, but for a list in JSON; empty fields are left out. As `read_records`."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        header = stream.readline()
        stream.seek(0)
        delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(header)
        for number, row in enumerate(csv.DictReader(stream, delimiter=delimiter, strict=True), 1):
            if None in row or None in row.values():
                yield number, RejectedRecord("malformed", "has another number of fields than the header")
            yield number, {key.strip(): _field(value) for key, value in row.items() if value}


def _delimiter(header: str) -> str:
    for delimiter in DELIMITERS:
        if COLUMNS & {name.strip().strip('"') for name in header.split(delimiter)}:
            return delimiter
    return ","


def _field(value: str) -> Any:
    if value.startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
