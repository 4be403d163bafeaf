"""Parquet as rows of Python values, none larger than allowed, in memory bound by that whatever a file claims or holds.

Strings that a file holds once and names a million times are read as that (`read_dictionary`), and counted before they are
written out.
"""

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.parallel.isolated_worker import IsolatedWorker, IsolatedWorkFailed
from tasks.documents import parquet
from tasks.formats.compressed import FREE_BYTES, MAX_RATIO, DamagedFile
from tasks.formats.rows.arrow_rows import Row, UnreadableRow, python_rows
from tasks.formats.rows.parquet_pages import BATCH_BYTES, UnsafeParquet, check_schema, plan_row_group, row_group_spans

PROBE_S = 60.0
"""Processor time to read the footer of a file."""
_FOOTER_PROBE = IsolatedWorker()
MEDIA = ("Audio", "Image", "Mesh", "Nifti", "Pdf", "Video")
"""Features of `datasets` that hold no text."""
FetchRange = Callable[[int, int], None]
"""Sees to it that the bytes of a file from a place to another are there."""


def probe_footer(path: Path) -> None:
    """Read all that a footer says. Where it contradicts itself, pyarrow 25 may end the process, which no exception tells."""
    file = parquet.open_file(path)
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        for number in range(about.num_columns):
            about.column(number)


class ParquetReader:
    """A Parquet file, open. `schema`: of its columns as they are written, without those of pictures and sound.

    `fetch` is asked for the bytes of a row group before they are read; those of the footer are there.

    Raises:
        DamagedFile: it cannot be read as Parquet.
    """

    def __init__(self, path: Path, max_bytes: int, fetch: FetchRange | None = None) -> None:
        self.path, self._max_bytes, self._fetch = path, max_bytes, fetch
        self._raw: IO[bytes] = path.open("rb")
        try:
            check_schema(self._raw)
            _FOOTER_PROBE.call(probe_footer, path.absolute(), seconds=PROBE_S)  # it may stand in another folder
            self._file = parquet.open_file(path)
            schema: pa.Schema = self._file.schema_arrow
            media = media_columns(schema)
            self.schema = pa.schema([field for field in schema if field.name not in media]) if media else schema
            self._columns = self.schema.names if media else None
            parts = [self._file.schema.column(number) for number in range(len(self._file.schema))]
            strings = [part.path for part in parts if part.physical_type == "BYTE_ARRAY"]
            self._indexed = parquet.open_file(path, read_dictionary=strings)
        except (pa.ArrowException, OSError, ValueError, RecursionError, UnsafeParquet, IsolatedWorkFailed) as error:
            self._raw.close()
            raise DamagedFile(
                "corrupt_file", f"{path}: cannot be read as Parquet ({error}). Replace the file."
            ) from None

    def __enter__(self) -> "ParquetReader":
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._file, self._indexed, self._raw):
            file.close()

    def rows(self, needed: Collection[str]) -> Iterator[tuple[int, Row | UnreadableRow | DamagedFile]]:
        """Number (from 1) and content of each row. In the place of one that is too large, and of all that are lost with a
        row group or the file, stands what is wrong. `needed`: columns that no row can be without.
        """
        number, decoded = 0, 0
        most = max(FREE_BYTES, MAX_RATIO * self.path.stat().st_size)
        for group in range(self._file.num_row_groups):
            end = number + self._file.metadata.row_group(group).num_rows
            try:
                for batch in self._batches(group):
                    size = decoded_bytes(batch)
                    decoded += size
                    if decoded > most:
                        detail = f"more than {most} bytes come out of it"
                        yield number + 1, DamagedFile("decompression_bomb", f"{self.path}, row {number + 1}: {detail}")
                        return
                    for row in self._python_rows(batch, needed, size):
                        number += 1
                        yield number, row if row is not None else self._too_large(number)
            except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, UnsafeParquet) as error:
                reason = error.reason if isinstance(error, UnsafeParquet) else "corrupt_file"
                detail = f"{self.path}: rows {number + 1} to {end} ({end - number} rows) cannot be read: {error}"
                yield number + 1, DamagedFile(reason, detail)
            number = end

    def _batches(self, group: int) -> Iterator[pa.RecordBatch]:
        if self._fetch:
            for start, end in row_group_spans(self._file.metadata.row_group(group)):
                self._fetch(start, end)
        rows, dictionaries = plan_row_group(self._raw, self._file.metadata, group, self._max_bytes)
        file = self._indexed if dictionaries else self._file
        yield from file.iter_batches(rows, row_groups=[group], columns=self._columns)

    def _python_rows(
        self, batch: pa.RecordBatch, needed: Collection[str], size: int
    ) -> Iterator[Row | UnreadableRow | None]:
        """Rows as Python values; None for one of more than the bytes allowed."""
        if size <= min(BATCH_BYTES, self._max_bytes):
            yield from python_rows(batch.cast(self.schema), needed)
            return
        for number in range(batch.num_rows):
            row = batch.slice(number, 1)
            if decoded_bytes(row) > self._max_bytes:
                yield None
            else:
                yield from python_rows(row.cast(self.schema), needed)

    def _too_large(self, number: int) -> DamagedFile:
        return DamagedFile("too_large", f"{self.path}, row {number}: more than {self._max_bytes} bytes")


def media_columns(schema: pa.Schema) -> set[str]:
    """Columns of pictures, sound and the like, by what `datasets` writes into a schema's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name for name, feature in features.items() if feature.get("_type") in MEDIA}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return set()


def decoded_bytes(batch: pa.RecordBatch) -> int:
    """Bytes of the rows when each string is written out where it stands."""
    return sum(_decoded_bytes(column) for column in batch.columns)


def _decoded_bytes(array: Any) -> int:
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary)
        written: int = pc.sum(pc.take(lengths, array.indices)).as_py() or 0
        return written + int(array.indices.nbytes)
    if pa.types.is_struct(kind):
        return sum(map(_decoded_bytes, array.flatten()))
    if pa.types.is_map(kind):
        start, length = array.offsets[0].as_py(), array.offsets[-1].as_py() - array.offsets[0].as_py()
        return _decoded_bytes(array.keys.slice(start, length)) + _decoded_bytes(array.items.slice(start, length))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _decoded_bytes(array.flatten()) + 4 * len(array)
    return int(array.nbytes)
