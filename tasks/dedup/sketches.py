"""Sketches: all that is kept of a shard to find its duplicates, in files named by the shard's content.

Texts stay in the workers. A sketch is an Arrow IPC file with a table (ids, lengths, digests), one 64-bit key a band
and document, and in its schema's metadata, as JSON, the counts of the shard. The shingle hashes are larger than the text,
and the search wants few of them: they are made anew for these (`shingle_sets`), and kept beside the sketch only where all are
searched. The name is a hash of the shard's bytes and of the configuration: in a folder that outlives the run, a shard that was
there before is not sketched again. Which duplicate survives is not part of it, so that another rule needs no new sketches.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import UserError
from tasks.dedup.canonical_url import url_keys
from tasks.documents.shards import SCHEMA, read_shard
from tasks.documents.source_counts import count_by_source
from tasks.similarity import lsh, shingles
from tasks.similarity.canonical_columns import canonical_column, digests

SKETCH_FORMAT = 7
"""Raised when a sketch's layout or meaning changes: older ones are then not found."""
COUNTS_KEY = b"textmill"
"""Key in the metadata of a sketch's schema."""


@dataclass(frozen=True)
class SketchConfig:
    """What a sketch depends on besides the shard; two sketches of one config are comparable."""

    ngram: int
    bands: int
    rows: int
    seed: int
    method: Literal["minhash", "simhash"] = "minhash"
    simhash_bits: int = 11
    urls: bool = False
    sets: bool = False


def sketch(shard: Path, folder: Path, config: SketchConfig) -> dict[str, Any]:
    """Sketch a shard into `folder` unless it is there whole; returns its `name` there and what `load_corpus` needs.

    Raises:
        UserError: a text is no valid UTF-8.
    """
    digest = hashlib.blake2b(shard.read_bytes(), digest_size=16)
    digest.update(json.dumps([SKETCH_FORMAT, asdict(config)], sort_keys=True).encode())
    name = digest.hexdigest()
    if (before := _read_counts(folder, name, config.sets)) is not None:
        return {"name": name, **before, "known": True}
    columns = ["id", "text", "source", *(["url", "fetched_at"] if config.urls else [])]
    table = read_shard(shard, columns)
    for column in columns:
        wanted, found = SCHEMA.field(column).type, table.schema.field(column).type
        if found not in (wanted, pa.large_string() if wanted == pa.string() else wanted):
            raise UserError(f"{shard}: column {column} is of type {found}, not {wanted}. Have clean write it anew.")
    try:
        data, borders = canonical_column(table.column("text"))
    except UserError as error:
        raise UserError(f"{shard}: {error}. Run the stage that wrote it again: dvc repro --force clean") from None
    hashes, offsets = shingles.shingle_lists(data, borders, config.ngram)
    if config.method == "minhash":
        minima = shingles.minhash_signatures(hashes, offsets, config.bands * config.rows, config.seed)
        keys = lsh.band_keys(minima, config.bands, config.rows)
        hashes, offsets = shingles.lists_to_sets(hashes, offsets)
    else:
        hashes, offsets = shingles.lists_to_sets(hashes, offsets)
        keys = lsh.band_keys(lsh.simhash(hashes, offsets, config.bands, config.simhash_bits), config.bands, 1)
    of_document = {
        "id": table.column("id"),
        "source": table.column("source").fill_null(""),
        "characters": pc.utf8_length(table.column("text")).fill_null(0).cast(pa.int64()),
        "digest": digests(data, borders),
        "shingles": pa.array(np.diff(offsets)),
        "keys": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(8 * config.bands), len(table), [None, pa.py_buffer(np.ascontiguousarray(keys.T))]
        ),
    }
    if config.urls:
        of_document["url_key"] = url_keys(table.column("url"))
        of_document["fetched_at"] = table.column("fetched_at").cast(pa.int64()).fill_null(-1)
    longest = pc.max(pc.binary_length(table.column("id"))).as_py() or 1
    counts = {"sources": count_by_source(table), "documents": len(table), "id_bytes": longest}
    beside = folder / f".{name}.{os.getpid()}"
    if config.sets:
        hashes.tofile(beside)
        beside.replace(folder / f"{name}.u64")
    sketch_table = (
        pa.table(of_document).combine_chunks().replace_schema_metadata({COUNTS_KEY: json.dumps(counts, sort_keys=True)})
    )
    with pa.ipc.new_file(str(beside), sketch_table.schema) as writer:  # several times as fast to read as Parquet
        writer.write_table(sketch_table)
    beside.replace(folder / f"{name}.arrow")  # last: a sketch that was cut short has none
    return {"name": name, **counts, "known": False}


def open_sketch(path: Path) -> pa.Table:
    """The columns of a sketch, memory-mapped.

    Raises:
        OSError, pa.ArrowInvalid: it is not there, or not whole.
    """
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _read_counts(folder: Path, name: str, sets: bool) -> dict[str, Any] | None:
    """The counts in a sketch; None where there is none, or a part of it is gone or cut (a full disk, a power cut)."""
    with suppress(OSError, pa.ArrowInvalid):
        sketch_table = open_sketch(folder / f"{name}.arrow")
        shingled = pc.sum(sketch_table.column("shingles")).as_py() or 0
        if not sets or (folder / f"{name}.u64").stat().st_size == 8 * shingled:
            counts: dict[str, Any] = json.loads(sketch_table.schema.metadata[COUNTS_KEY])
            return counts
    return None
