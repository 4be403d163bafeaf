"""JSON Lines and Parquet: files of rows. Every line and row comes out, as a document or with the reason why it is none."""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.text.compressed import Damaged, Readable, Stream, codec_of, lines
from tasks.text.encoding import Decoded, mark
from tasks.text.json_rows import RowDecoder, read_values
from tasks.text.row_items import Columns, Item, WrongColumns, lost, plain, row_item
from tasks.text.undeclared_encoding import wide

BATCH_ROWS = 1000
LACKING = object()
"""Stands for a value that Python cannot hold."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Unreadable:
    """A row without a value that it cannot be without: `reason` and `detail`."""

    reason: str
    detail: str


class Recoded:
    """A stream in an encoding whose line feeds are more than one byte (UTF-16, UTF-32), as UTF-8."""

    def __init__(self, stream: Stream, first: bytes, encoding: str) -> None:
        self.path, self._stream, self._first, self._encoding = stream.path, stream, first, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def read(self) -> bytes:
        """As `Stream.read`; what is not of the encoding becomes U+FFFD."""
        while block := self._first or self._stream.read():
            self._first = b""
            if text := self._decoder.decode(block):
                return text.encode()
        return b""


class Pushed:
    """A stream whose first block was looked at and put back."""

    def __init__(self, stream: Stream, first: bytes) -> None:
        self.path, self._stream, self._first = stream.path, stream, first

    def read(self) -> bytes:
        """As `Stream.read`."""
        block, self._first = self._first, b""
        return block or self._stream.read()


def read_jsonl(path: Path, url: str, columns: Columns, declared: str | None, max_bytes: int) -> Iterator[Item]:
    """The lines of a JSON Lines file. UTF-8 (RFC 8259) unless a byte order mark or `declared` says otherwise.

    Raises:
        UserError: the file cannot be opened, or changes meanwhile.
    """
    with Stream(path) as stream:
        try:
            first = stream.read()
        except Damaged as damage:
            yield lost(str(path), url, damage.reason, damage.detail)
            return
        by, source = _encoding(stream, first, declared)
        decoder = RowDecoder("utf-8" if isinstance(source, Recoded) else by.encoding, by.by)
        for number, raw in lines(source, max_bytes):
            where, row_url = f"{path}, line {number}", f"{url}#L{number}"
            if isinstance(raw, Damaged):
                yield lost(where, row_url, raw.reason, raw.detail)
                continue
            yield from _line(raw, where, row_url, columns, decoder, by)


def _encoding(stream: Stream, first: bytes, declared: str | None) -> tuple[Decoded, Readable]:
    """How the lines are encoded, and the stream to read them from; `first` is its first block."""
    whole = first[: len(first) // 4 * 4]
    if marked := mark(first):
        by = Decoded("", marked, "mark")
    elif declared:
        by = Decoded("", declared.lower(), "declared")
    elif b"\0" in first[:4] and (found := wide(whole)):
        by = Decoded("", found, "content")
    else:
        by = Decoded("", "utf-8", "valid")
    if by.encoding.replace("_", "-").startswith(("utf-16", "utf-32")):
        return by, Recoded(stream, first, by.encoding)
    return by, Pushed(stream, first)


def _line(raw: bytes, where: str, url: str, columns: Columns, decoder: RowDecoder, by: Decoded) -> Iterator[Item]:
    """The rows of a line: one, where files were joined without a line end more."""
    decoded = decoder.decode(raw)
    try:
        rows = read_values(decoded.text)
    except (ValueError, RecursionError) as error:
        shown = raw.decode("utf-8", "backslashreplace")
        yield Item(where, url, raw, shown, reason="broken_json", detail=f"{where}: {error}"[:500])
        return
    told = decoded if decoded.encoding != "utf-8" or decoded.strays else by
    for place, row in enumerate(rows):
        content = raw if len(rows) == 1 else json.dumps(row, ensure_ascii=False).encode()
        row_url = f"{url}.{place + 1}" if place else url
        if isinstance(row, dict):
            yield row_item(row, where, row_url, content, columns, told)
        else:
            detail = f"{where}: {type(row).__name__}, expected an object"
            yield Item(where, row_url, content, json.dumps(row), reason="broken_json", detail=detail)


def read_parquet(path: Path, url: str, columns: Columns) -> Iterator[Item]:
    """The rows of a Parquet file. Of a damaged row group the rows before the damage are kept, the rest is counted once;
    a file without a readable footer is counted as a whole.

    Raises:
        WrongColumns: the columns are missing or of another type.
        UserError: the file cannot be opened, or changes meanwhile.
    """
    if codec_of(path):
        yield lost(
            str(path), url, "corrupt_file", f"{path}: Parquet is compressed inside; decompress the file around it."
        )
        return
    with Stream(path) as unchanged:
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            detail = f"{path}: cannot be read as Parquet ({error}). Replace the file."
            yield lost(str(path), url, "corrupt_file", detail)
            return
        with file:
            _check_columns(path, file.schema_arrow, columns)
            yield from _row_groups(file, path, url, columns)
        unchanged.check_unchanged()


def _check_columns(path: Path, schema: pa.Schema, columns: Columns) -> None:
    if not columns.among(schema.names):
        raise WrongColumns(
            f"{path}: has no column {columns.text!r} or {columns.messages!r}, only {', '.join(sorted(schema.names))}. "
            "Set text_column or messages_column."
        )
    if columns.text in schema.names and columns.messages not in schema.names:
        kind = schema.field(columns.text).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (_is_text(kind) or _is_bytes(kind) or pa.types.is_null(kind)):
            raise WrongColumns(
                f"{path}: column {columns.text!r} holds {kind}, no text. Set text_column or messages_column."
            )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _row_groups(file: pq.ParquetFile, path: Path, url: str, columns: Columns) -> Iterator[Item]:
    number = 0
    for group in range(file.num_row_groups):
        end = number + file.metadata.row_group(group).num_rows
        try:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group]):
                for row in plain_rows(batch, columns):
                    number += 1
                    yield plain_item(row, f"{path}, row {number}", f"{url}#R{number}", columns)
        except (pa.ArrowException, OSError) as error:
            detail = f"{path}: rows {number + 1} to {end} ({end - number} rows) cannot be read: {error}"
            yield lost(f"{path}, row {number + 1}", f"{url}#R{number + 1}", "corrupt_file", detail)
        number = end


def plain_rows(batch: pa.RecordBatch, columns: Columns) -> Iterator[Row | Unreadable]:
    """Rows as Python values.

    Parquet checks neither that strings are UTF-8 nor that times fit any calendar, and Python has no value for those: in
    strings U+FFFD stands for what is wrong; without another value in the messages a row is lost, else it only lacks that.
    """
    try:
        yield from batch.to_pylist()
    except Exception:  # whatever pyarrow and the libraries of time zones raise
        for number in range(batch.num_rows):
            yield _plain_row(batch.slice(number, 1), columns)


def _plain_row(row: pa.RecordBatch, columns: Columns) -> Row | Unreadable:
    values: Row = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            values[name] = column[0].as_py()
        except UnicodeDecodeError:
            values[name] = _decoded(column.cast(_of_bytes(column.type))[0].as_py())
        except Exception as error:
            if name in (columns.text, columns.messages):
                return Unreadable("unreadable_value", f"{name!r}: {error}")
            values[name] = LACKING
    return values


def _of_bytes(kind: pa.DataType) -> pa.DataType:
    """The type with bytes in the place of strings."""
    if pa.types.is_dictionary(kind):
        return _of_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_of_bytes(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_of_bytes(kind.value_type))
    return pa.large_binary() if _is_text(kind) else kind


def _decoded(value: Any) -> Any:
    """The value with strings in the place of bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return [_decoded(part) for part in value]
    if isinstance(value, dict):
        return {name: _decoded(part) for name, part in value.items()}
    return value


def plain_item(row: Row | Unreadable, where: str, url: str, columns: Columns) -> Item:
    """What `plain_rows` gives to a document."""
    if isinstance(row, Unreadable):
        return lost(where, url, row.reason, f"{where}: {row.detail}")
    lacking = sum(value is LACKING for value in row.values())
    row = {name: value for name, value in row.items() if value is not LACKING}
    decoded = None
    if isinstance(content := row.get(columns.text), bytes):  # old writers have no other type for strings
        decoded = RowDecoder().decode(content)
        row = {**row, columns.text: decoded.text}
    raw = json.dumps(row, ensure_ascii=False, sort_keys=True, default=plain).encode()
    item = row_item(json.loads(raw), where, url, raw, columns, decoded)
    return replace(item, repaired=("unreadable_value",) * lacking)
