"""Arrow's stream and file formats, which `datasets` saves: files of rows, none larger than allowed.

What a file claims is checked before Python sees it: nothing in it may be larger than the file (no compressed buffers, no
rows or lists without bytes of their own), and every offset is looked at, since pyarrow trusts them.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.formats.compressed import DamagedFile, FileStream, compression_of
from tasks.formats.rows.arrow_rows import python_rows
from tasks.formats.rows.parquet_rows import decoded_bytes, media_columns
from tasks.scrape.files.parquet_files import check_columns, python_row_to_document
from tasks.scrape.files.row_documents import Columns, ScrapedDocument, unreadable_document

MAGIC = b"ARROW1"
ROWS_PER_BYTE = 8
"""A value takes a bit at least."""
COMPRESSION = 3
"""Field of a record batch (format/Message.fbs); a dictionary's batch is field 1 of its table."""


def read_arrow(path: Path, url: str, columns: Columns, max_bytes: int) -> Iterator[ScrapedDocument]:
    """The rows of an Arrow file, of at most `max_bytes` each. From damage on the rest is counted once.

    Raises:
        WrongColumns: the columns are missing or of another type.
        UserError: the file cannot be opened, or changes meanwhile.
    """
    if compression_of(path):
        yield unreadable_document(str(path), url, "corrupt_file", f"{path}: decompress it.")
        return
    number = 0
    with FileStream(path, decompress=False) as unchanged:
        try:
            for batch in _batches(path):
                if number == 0:
                    check_columns(path, batch.schema, columns)
                media = media_columns(batch.schema)
                batch = batch.select([at for at, name in enumerate(batch.schema.names) if name not in media])
                for index in range(batch.num_rows):
                    number += 1
                    where, row_url = f"{path}, row {number}", f"{url}#R{number}"
                    row = batch.slice(index, 1)
                    if decoded_bytes(row) > max_bytes:
                        yield unreadable_document(where, row_url, "too_large", f"{where}: more than {max_bytes} bytes")
                        continue
                    for values in python_rows(row, (columns.text, columns.messages)):
                        yield python_row_to_document(values, where, row_url, columns)
        except (pa.ArrowException, OSError, ValueError, EOFError, struct.error, MemoryError, DamagedFile) as error:
            reason = error.reason if isinstance(error, DamagedFile) else "corrupt_file"
            detail = f"{path}: row {number + 1} and all after it cannot be read: {error}"
            yield unreadable_document(str(path), f"{url}#R{number + 1}", reason, detail)
        unchanged.check_unchanged()


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Checked batches of rows."""
    size = path.stat().st_size
    rows = 0
    with pa.memory_map(str(path)) as file:
        whole = file.read(len(MAGIC)) == MAGIC
        _check_messages(file, 8 if whole else 0, size)
        file.seek(0)
        reader: Any = pa.ipc.open_file(file) if whole else pa.ipc.open_stream(file)
        batches = (reader.get_batch(n) for n in range(reader.num_record_batches)) if whole else reader
        for kind in reader.schema.types:
            _check_type(kind)
        for batch in batches:
            rows += batch.num_rows
            if rows > ROWS_PER_BYTE * size:
                raise DamagedFile("decompression_bomb", f"{rows} rows in {size} bytes")
            batch.validate(full=True)
            yield batch


def _check_messages(file: Any, at: int, size: int) -> None:
    """Check that no message carries compressed buffers, which may swell without bound."""
    while at < size:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        marked, length = struct.unpack_from("<Ii", head)
        if marked != 0xFFFFFFFF:  # before Arrow 0.15 the length stood alone
            length, at = struct.unpack_from("<i", head)[0], at - 4
        if length <= 0:
            return
        file.seek(at)
        message = pa.ipc.read_message(file)
        if message.type in ("record batch", "dictionary"):
            data = memoryview(message.metadata)
            table = _table(data, _root(data), 2)
            if message.type == "dictionary":
                table = _table(data, table, 1)
            if _field(data, table, COMPRESSION):
                raise DamagedFile(
                    "compressed_arrow", f"{message.type} with compressed buffers: save it without compression"
                )
        at = file.tell()


def _root(data: memoryview) -> int:
    return int(struct.unpack_from("<I", data, 0)[0])


def _field(data: memoryview, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table stands, 0 if it is not there. pyarrow has verified the message."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    at = 4 + 2 * number
    offset = struct.unpack_from("<H", data, entries + at)[0] if at < struct.unpack_from("<H", data, entries)[0] else 0
    return table + offset if offset else 0


def _table(data: memoryview, table: int, number: int) -> int:
    at = _field(data, table, number)
    return at + int(struct.unpack_from("<I", data, at)[0])


def _check_type(kind: Any) -> None:
    """Check that each value of a type has bytes of its own.

    Raises:
        DamagedFile: many may share them.
    """
    waiting = [kind]
    while waiting:
        kind = waiting.pop()
        shared = (pa.types.is_run_end_encoded, pa.types.is_list_view, pa.types.is_large_list_view, pa.types.is_union)
        if any(is_shared(kind) for is_shared in (*shared, pa.types.is_string_view, pa.types.is_binary_view)):
            raise DamagedFile("corrupt_file", f"a column of type {kind}, which is not read")
        waiting += [kind.field(number).type for number in range(kind.num_fields)]
        if pa.types.is_dictionary(kind):
            waiting.append(kind.value_type)
