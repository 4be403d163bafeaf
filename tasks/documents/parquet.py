"""Parquet whose damage is found: each page has a checksum, and so has the footer; all reading and writing goes through here.

Parquet's own checksums (CRC-32 of a page as it is stored) leave out the footer, which says what the pages mean. Ours
stands in its key-value metadata, where other readers pass it over. Files of others are read as they are, with the
checksums that they have.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

CHECKSUM = b"textmill.footer_crc32"
"""Key of the checksum of the footer, taken with zeros in its place."""
DIGITS = 8
ENTRY = b"\x18%c%b\x18%c" % (len(CHECKSUM), CHECKSUM, DIGITS)
"""What stands before its value: type, length and bytes of the key, type and length of the value (Thrift's compact protocol)."""
TAIL_BYTES = 8
"""Length of the footer and `PAR1`, at the end of a file."""


def write_table(table: pa.Table, path: Path, **options: Any) -> None:
    """Write a table; the same table gives the same bytes. `options` are those of `pyarrow.parquet.ParquetWriter`."""
    with path.open("wb+") as file:
        with pq.ParquetWriter(file, table.schema, write_page_checksum=True, **options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({CHECKSUM: b"0" * DIGITS})
        footer = _footer(file)
        at = footer.rindex(ENTRY) + len(ENTRY)  # the last: a text among the statistics may say it as well
        file.seek(at - len(footer) - TAIL_BYTES, 2)
        file.write(b"%08x" % zlib.crc32(footer))


def read_table(source: Path | IO[bytes], columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table.

    Raises:
        pa.ArrowException, OSError: it is no Parquet, is damaged or not there.
        KeyError: it lacks a column.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            _check_footer(file)
    else:
        _check_footer(source)
        source.seek(0)
    table = pq.read_table(source, columns=list(columns) if columns else None, page_checksum_verification=True)
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != CHECKSUM}
    return table.replace_schema_metadata(metadata or None)


def open_file(path: Path, **options: Any) -> Any:
    """A `pyarrow.parquet.ParquetFile`, which takes the `options`, to be read part by part; raises as `read_table`."""
    with path.open("rb") as file:
        _check_footer(file)
    return pq.ParquetFile(path, page_checksum_verification=True, **options)


def read_schema(path: Path) -> pa.Schema:
    """Names and types of the columns; raises as `read_table`."""
    with open_file(path) as file:
        return file.schema_arrow.remove_metadata()


def count_rows(path: Path) -> int:
    """Rows, as the footer says; raises as `read_table`."""
    with open_file(path) as file:
        return int(file.metadata.num_rows)


def _footer(file: IO[bytes]) -> bytes:
    """The footer; b"" of what has none."""
    size = file.seek(0, 2)
    if size < TAIL_BYTES:
        return b""
    file.seek(-TAIL_BYTES, 2)
    length = int.from_bytes(file.read(4), "little")
    if length > size - TAIL_BYTES:
        return b""
    file.seek(-TAIL_BYTES - length, 2)
    return file.read(length)


def _check_footer(file: IO[bytes]) -> None:
    footer = _footer(file)
    before, entry, behind = footer.rpartition(ENTRY)
    if not entry:
        return
    said, rest = behind[:DIGITS], behind[DIGITS:]
    if said != b"%08x" % zlib.crc32(before + entry + b"0" * DIGITS + rest):
        raise pa.ArrowInvalid("the checksum of its footer is another: it is damaged")
