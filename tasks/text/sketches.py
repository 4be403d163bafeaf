"""Sketches: all that is kept of a shard to find its duplicates, in files named by the shard's content.

Texts stay in the workers. A sketch holds a catalogue (ids, lengths, digests; Arrow), one 64-bit key a band and
document, and the sorted shingle hashes, which the search reads through a memory map. The name is a hash of the shard's
bytes and of the recipe: in a folder that outlives the run, a shard that was there before is not sketched again. Which
duplicate survives is not part of it, so that another rule needs no new sketches.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import UserError
from tasks.text import lsh, shingles
from tasks.text.comparable_columns import comparable_column, digests
from tasks.text.documents import SCHEMA, read_shard
from tasks.text.shingles import Int64, UInt64
from tasks.text.sizes import by_source
from tasks.text.urls import url_keys

IN_MEMORY = 20_000_000
"""Documents up to which the catalogue is held in memory, about 120 bytes each; beyond, in files."""
FORMAT = 5
"""Raised when a sketch's layout or meaning changes: older ones are then not found."""
PARTS = ("keys.npy", "u64", "arrow")
"""Files of a sketch, beside the JSON that says how large they are."""


@dataclass(frozen=True)
class Recipe:
    """What a sketch depends on besides the shard; two sketches of one recipe are comparable."""

    ngram: int
    bands: int
    rows: int
    seed: int
    method: Literal["minhash", "simhash"] = "minhash"
    simhash_bits: int = 11
    urls: bool = False


def sketch(shard: Path, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Sketch a shard into `folder` unless it is there whole; returns its `name` there and what `load` needs.

    Raises:
        UserError: a text is no valid UTF-8.
    """
    digest = hashlib.blake2b(shard.read_bytes(), digest_size=16)
    digest.update(json.dumps([FORMAT, asdict(recipe)], sort_keys=True).encode())
    name = digest.hexdigest()
    if (before := _known(folder, name)) is not None:
        return {"name": name, **before, "known": True}
    columns = ["id", "text", "source", *(["url", "fetched_at"] if recipe.urls else [])]
    table = read_shard(shard, columns)
    for column in columns:
        wanted, found = SCHEMA.field(column).type, table.schema.field(column).type
        if found not in (wanted, pa.large_string() if wanted == pa.string() else wanted):
            raise UserError(f"{shard}: column {column} is of type {found}, not {wanted}. Have clean write it anew.")
    try:
        data, borders = comparable_column(table.column("text"))
    except UserError as error:
        raise UserError(f"{shard}: {error}. Run the stage that wrote it again: dvc repro --force clean") from None
    hashes, offsets = shingles.shingle_lists(data, borders, recipe.ngram)
    if recipe.method == "minhash":
        minima = shingles.signatures(hashes, offsets, recipe.bands * recipe.rows, recipe.seed)
        keys = lsh.band_keys(minima, recipe.bands, recipe.rows)
        hashes, offsets = shingles.to_sets(hashes, offsets)
    else:
        hashes, offsets = shingles.to_sets(hashes, offsets)
        keys = lsh.band_keys(lsh.simhash(hashes, offsets, recipe.bands, recipe.simhash_bits), recipe.bands, 1)
    catalogue = {
        "id": table.column("id"),
        "source": table.column("source").fill_null(""),
        "characters": pc.utf8_length(table.column("text")).fill_null(0).cast(pa.int64()),
        "digest": digests(data, borders),
        "shingles": pa.array(np.diff(offsets)),
    }
    if recipe.urls:
        catalogue["url_key"] = url_keys(table.column("url"))
        catalogue["fetched_at"] = table.column("fetched_at").cast(pa.int64()).fill_null(-1)
    longest = pc.max(pc.binary_length(table.column("id"))).as_py() or 1
    parts: dict[str, Callable[[Any], object]] = {
        "keys.npy": lambda file: np.save(file, keys),
        "u64": hashes.tofile,
        "arrow": partial(_write_arrow, pa.table(catalogue)),
    }
    beside, sizes = folder / f".{name}.{os.getpid()}", {}
    for part, write in parts.items():
        with beside.open("wb") as file:
            write(file)
        sizes[part] = beside.stat().st_size
        beside.replace(folder / f"{name}.{part}")
    counts = {"sources": by_source(table), "documents": len(table), "id_bytes": longest, "bytes": sizes}
    beside.write_text(json.dumps(counts, sort_keys=True))
    beside.replace(folder / f"{name}.json")  # last: a sketch that was cut short has none
    return {"name": name, **counts, "known": False}


def _write_arrow(table: pa.Table, file: Any) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:  # several times as fast to read as Parquet
        writer.write_table(table)


def _known(folder: Path, name: str) -> dict[str, Any] | None:
    """What was noted of a sketch; None where there is none, or a part of it is gone or cut (a full disk, a power cut)."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        counts: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
        if all((folder / f"{name}.{part}").stat().st_size == counts["bytes"][part] for part in PARTS):
            return counts
    return None


@dataclass(frozen=True)
class Corpus:
    """The sketches of all shards, one entry a document in the order of the shards.

    Attributes:
        names: of the sketches, one a shard.
        ids: bytes strings [documents].
        characters: int64 [documents], length of the text.
        digests: int64 [documents]; a number of its own for each distinct text.
        priority: float64 [documents]; a smaller one survives.
        sources: str [sources]; source: int64 [documents], index into it.
        shard, row: int64 [documents]; where the document is.
        sizes: int64 [documents]; shingles in its set.
        keys: for each shard the memory-mapped band keys, uint64 [bands, documents of the shard].
        url, fetched_at: int64 [documents] or None: a number for each distinct address (-1: none); milliseconds.
    """

    folder: Path
    names: list[str]
    ids: npt.NDArray[Any]
    characters: Int64
    digests: Int64
    priority: npt.NDArray[np.float64]
    sources: list[str]
    source: Int64
    shard: Int64
    row: Int64
    sizes: Int64
    keys: list[UInt64]
    url: Int64 | None = None
    fetched_at: Int64 | None = None

    def gather(self, documents: Int64, target: Path) -> tuple[UInt64, Int64]:
        """Bring the shingles of some documents (ascending) into one file, memory-mapped: uint64.

        Returns it with where each document's begin, int64 [all documents], -1 for the others.
        """
        starts = np.full(len(self.ids), -1, np.int64)
        end, first = 0, np.searchsorted(self.shard, np.arange(len(self.names) + 1))
        with target.open("wb") as file:
            for number, name in enumerate(self.names):
                here = slice(first[number], first[number + 1])
                wanted = documents[(documents >= here.start) & (documents < here.stop)] - here.start
                sizes = self.sizes[here]
                if not sizes[wanted].sum():
                    starts[here][wanted] = end
                    continue
                everything = np.memmap(self.folder / f"{name}.u64", np.uint64, "r")
                chosen = np.zeros(len(sizes), np.bool_)
                chosen[wanted] = True
                everything[np.repeat(chosen, sizes)].tofile(file)
                ends = end + np.cumsum(sizes[wanted])
                starts[here][wanted] = ends - sizes[wanted]
                end = int(ends[-1])
        return (np.memmap(target, np.uint64, "r") if end else np.zeros(0, np.uint64)), starts


def load(
    folder: Path, sketched: Sequence[Mapping[str, Any]], work: Path, priorities: Sequence[Path] | None = None
) -> Corpus:
    """What `sketch` returned for each shard, brought together without the shingles.

    `priorities` are the files that `survivor.write_priorities` wrote, one a shard; None: all documents are alike.
    Up to IN_MEMORY documents the catalogue is in memory; that of a larger corpus lies in files of `work`, from which
    the system keeps in memory what there is room for.
    """
    lengths = [shard["documents"] for shard in sketched]
    total = sum(lengths)
    sources = sorted({source for shard in sketched for source in shard["sources"]})

    column = partial(catalogue_column, work)
    ids = column("ids", f"S{max((shard['id_bytes'] for shard in sketched), default=1)}", total)
    columns = {name: column(name, "i8", total) for name in ("characters", "shingles", "source", "shard", "row")}
    priority, digest = column("priority", "f8", total), column("digest", "u8", total, 2)
    url = fetched_at = None
    begin = 0
    for number, shard in enumerate(sketched):
        with pa.memory_map(str(folder / f"{shard['name']}.arrow")) as file:
            table = pa.ipc.open_file(file).read_all().combine_chunks()
        here = slice(begin, begin + len(table))
        begin = here.stop
        ids[here] = table.column("id").cast(pa.binary()).to_numpy()
        for name in ("characters", "shingles"):
            columns[name][here] = table.column(name).to_numpy()
        columns["source"][here] = pc.index_in(
            table.column("source"), value_set=pa.array(sources, pa.string())
        ).to_numpy()
        columns["shard"][here], columns["row"][here] = number, np.arange(len(table))
        priority[here] = np.load(priorities[number]) if priorities else 0.0
        digest[here] = digest_halves(table.column("digest"))
        if "url_key" in table.column_names:
            if url is None or fetched_at is None:
                url, fetched_at = column("url", "u8", total, 2), column("fetched_at", "i8", total)
            url[here] = digest_halves(table.column("url_key").fill_null(bytes(16)))
            fetched_at[here] = table.column("fetched_at").to_numpy()
    if url is not None:
        known, url = (url != 0).any(axis=1), numbered(url)
        url[~known] = -1
    return Corpus(
        folder=folder,
        names=[shard["name"] for shard in sketched],
        ids=ids,
        characters=columns["characters"],
        digests=numbered(digest),
        priority=priority,
        sources=sources,
        source=columns["source"],
        shard=columns["shard"],
        row=columns["row"],
        sizes=columns["shingles"],
        keys=[np.load(folder / f"{each['name']}.keys.npy", mmap_mode="r").view(np.ndarray) for each in sketched],
        url=url,
        fetched_at=fetched_at,
    )


def catalogue_column(work: Path, name: str, kind: str, *shape: int) -> npt.NDArray[Any]:
    """An array of what the whole corpus has: in memory up to IN_MEMORY rows, beyond in a file of `work`."""
    if shape[0] <= IN_MEMORY:
        return np.empty(shape, kind)
    return np.lib.format.open_memmap(work / f"{name}.npy", "w+", np.dtype(kind), shape)


def digest_halves(digests: pa.ChunkedArray) -> UInt64:
    """16-byte digests as uint64 [digests, 2]."""
    array = digests.combine_chunks()
    halves: UInt64 = np.frombuffer(array.buffers()[1] or b"", np.uint64).reshape(-1, 2)
    return halves[array.offset : array.offset + len(array)]


def numbered(digests: UInt64) -> Int64:
    """For each digest, uint64 [digests, 2], a number that equal ones share, int64."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    new = np.zeros(len(order), np.int64)
    for half in range(2):
        column = digests[order, half]
        new[1:] |= column[1:] != column[:-1]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(new)
    return numbers
