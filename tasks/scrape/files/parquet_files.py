"""Parquet: files of rows. Every row comes out, as a document or with the reason why it is none."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from tasks.formats.compressed import DamagedFile, FileStream, compression_of
from tasks.formats.rows.arrow_rows import UNCONVERTIBLE, Row, UnreadableRow, is_bytes, is_text
from tasks.formats.rows.json_rows import RowDecoder
from tasks.formats.rows.parquet_rows import FetchRange, ParquetReader
from tasks.scrape.files.row_documents import (
    Columns,
    ScrapedDocument,
    WrongColumns,
    json_default,
    row_to_document,
    unreadable_document,
)


def read_parquet(
    path: Path, url: str, columns: Columns, max_bytes: int, fetch: FetchRange | None = None
) -> Iterator[ScrapedDocument]:
    """The rows of a Parquet file, of at most `max_bytes` each. Of a damaged row group the rows before the damage are kept,
    the rest is counted once; a file without a readable footer is counted as a whole. `fetch`: see `ParquetReader`.

    Raises:
        WrongColumns: the columns are missing or of another type.
        UserError: the file cannot be opened, or changes meanwhile.
    """
    if compression_of(path):
        yield unreadable_document(
            str(path), url, "corrupt_file", f"{path}: Parquet is compressed inside; decompress the file around it."
        )
        return
    with FileStream(path, decompress=False) as unchanged:
        try:
            reader = ParquetReader(path, max_bytes, fetch)
        except DamagedFile as damage:
            yield unreadable_document(str(path), url, damage.reason, damage.detail)
            return
        with reader:
            check_columns(path, reader.schema, columns)
            for number, row in reader.rows((columns.text, columns.messages)):
                where, row_url = f"{path}, row {number}", f"{url}#R{number}"
                if isinstance(row, DamagedFile):
                    yield unreadable_document(where, row_url, row.reason, row.detail)
                else:
                    yield python_row_to_document(row, where, row_url, columns)
        if fetch is None:  # else it is filled meanwhile
            unchanged.check_unchanged()


def check_columns(path: Path, schema: pa.Schema, columns: Columns) -> None:
    """Check that a file has one of the columns, and text in it.

    Raises:
        WrongColumns: it has not.
    """
    columns.require(schema.names, path)
    if columns.text in schema.names and columns.messages not in schema.names:
        kind = schema.field(columns.text).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (is_text(kind) or is_bytes(kind) or pa.types.is_null(kind)):
            raise WrongColumns(
                f"{path}: column {columns.text!r} holds {kind}, no text. Set text_column or messages_column."
            )


def python_row_to_document(row: Row | UnreadableRow, where: str, url: str, columns: Columns) -> ScrapedDocument:
    """A row, as `python_rows` gives it, to a document."""
    if isinstance(row, UnreadableRow):
        return unreadable_document(where, url, row.reason, f"{where}: {row.detail}")
    lacking = sum(value is UNCONVERTIBLE for value in row.values())
    row = {name: value for name, value in row.items() if value is not UNCONVERTIBLE}
    decoded = None
    if isinstance(content := row.get(columns.text), bytes):  # old writers have no other type for strings
        decoded = RowDecoder().decode(content)
        row = {**row, columns.text: decoded.text}
    raw = json.dumps(row, ensure_ascii=False, sort_keys=True, default=json_default).encode()
    document = row_to_document(json.loads(raw), where, url, raw, columns, decoded)
    return replace(document, repaired=("unreadable_value",) * lacking)
