"""Documents on disk: Parquet shards (zstd) of one schema, the same from scrape to pack.

A document's `id` is given once, at scrape, and survives every stage.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.core.errors import UserError
from tasks.documents import parquet

SCORE_COLUMNS = ("language_score", "profanity", "quality", "perplexity")
"""What clean measures of a document, each a column; null where it was not asked for or could not be told."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # 32 hex digits: BLAKE2b-128 of source, url and raw content
        ("text", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),  # the `name` in scrape.sources
        ("lang", pa.string()),  # ISO 639-1, set by clean; null before
        ("fetched_at", pa.timestamp("ms", tz="UTC")),  # when it came over the network; null for local files
        ("licence", pa.string()),
        ("meta", pa.string()),  # a JSON object; conversations carry {"messages": [{"role", "content"}, ...]}
        *((name, pa.float64()) for name in SCORE_COLUMNS),
    ]
)
REMOVED_SCHEMA = pa.schema(
    [
        *SCHEMA,
        ("reason", pa.string()),  # a short snake_case name, counted in the stage's metrics
        ("detail", pa.string()),  # the measured value and its threshold, or null
        ("kept_id", pa.string()),  # for duplicates: the document kept in its place
        ("similarity", pa.float64()),  # for near-duplicates: exact Jaccard similarity to kept_id
        ("matched", pa.string()),  # for contamination: the evaluation item that it overlaps
    ]
)
DICTIONARY_COLUMNS = ("source", "lang", "licence", "reason")
"""Columns whose values repeat, written with a dictionary. One of texts or ids would make reading a fifth slower."""
SHARD_BYTES = 2 << 20
"""Text bytes after which a new shard begins: small enough to spread over cores, and set by the data alone, not the workers."""
SHARD_ROWS = 1 << 14
"""Rows after which one begins in any case: short and empty texts take memory too."""
SHARD_META_BYTES = 4 * SHARD_BYTES
"""Characters of `meta` after which one begins in any case."""


def document_id(source: str, url: str, content: bytes) -> str:
    """The id of a document: BLAKE2b with 16 bytes of output, over source, url and raw content, as hex."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (source.encode(), url.encode(), content):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def shard_paths(folder: Path) -> list[Path]:
    """The Parquet shards of `folder`, sorted by name.

    Raises:
        UserError: the folder is missing or holds no shard.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise UserError(f"{folder}: no Parquet shards here. Run the stage that writes them: dvc repro")
    return paths


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one shard.

    Raises:
        UserError: the file is no readable Parquet, or lacks a column.
    """
    try:
        return parquet.read_table(path, columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(
            f"{path}: cannot be read as Parquet ({error}). Remove it and start again: it is brought back, or made anew."
        ) from None


def cast_to_schema(table: pa.Table) -> pa.Table:
    """The columns of SCHEMA, in its order and of its types. Scores that the table lacks are null.

    Raises:
        KeyError: another column is missing.
    """
    for name in SCORE_COLUMNS:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), pa.float64()))
    return table.select(SCHEMA.names).cast(SCHEMA)


def read_documents(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All shards of `folder` as one table, in the order of the shards' names."""
    return pa.concat_tables([read_shard(path, columns) for path in shard_paths(folder)])


def count_rows(folder: Path) -> int:
    """Rows in the shards of `folder`, as their footers say."""
    return sum(parquet.count_rows(path) for path in shard_paths(folder))


def write_shard(table: pa.Table, path: Path) -> None:
    """Write one shard; the same table gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    few = [name for name in DICTIONARY_COLUMNS if name in table.column_names]
    parquet.write_table(
        table, path, compression="zstd", compression_level=1, use_dictionary=few
    )  # 3: 1.7 times as long


class DocumentWriter:
    """Writes rows to shards `<prefix>00000.parquet`, ... as they come. At least one shard, so that nothing is a table too."""

    def __init__(self, folder: Path, prefix: str = "", schema: pa.Schema = SCHEMA) -> None:
        self.written = 0
        self._folder, self._prefix, self._schema = folder, prefix, schema
        self._batch: list[dict[str, Any]] = []
        self._size = self._meta = self._shards = 0

    def path(self, number: int) -> Path:
        """Where the shard of that number lies."""
        return self._folder / f"{self._prefix}{number:05d}.parquet"

    def add(self, row: dict[str, Any]) -> None:
        """Take a row; missing columns become null, and `meta` may be a dict, written as JSON with sorted keys."""
        if isinstance(row.get("meta"), dict):
            row = {**row, "meta": json.dumps(row["meta"], ensure_ascii=False, sort_keys=True)}
        self._batch.append(row)
        self._size += len(row.get("text") or "")
        self._meta += len(row.get("meta") or "")
        if self._size >= SHARD_BYTES or self._meta >= SHARD_META_BYTES or len(self._batch) >= SHARD_ROWS:
            self._flush()

    @property
    def rows(self) -> int:
        """Rows so far, those not yet written among them."""
        return self.written + len(self._batch)

    def close(self) -> int:
        """Write what is left; returns the number of all rows."""
        if self._batch or not self._shards:
            self._flush()
        return self.written

    def _flush(self) -> None:
        table = pa.Table.from_pylist(self._batch, schema=self._schema)
        write_shard(table, self.path(self._shards))
        self.written += len(self._batch)
        self._shards += 1
        self._batch, self._size, self._meta = [], 0, 0


def write_documents(rows: Iterable[dict[str, Any]], folder: Path, prefix: str = "", schema: pa.Schema = SCHEMA) -> int:
    """Write rows to shards as `DocumentWriter` does. Returns their number."""
    writer = DocumentWriter(folder, prefix, schema)
    for row in rows:
        writer.add(row)
    return writer.close()
