"""The sketches of a corpus brought together: what is known of each document, without its text and its shingles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.dedup.sketches import open_sketch
from tasks.similarity.shingles import Int64, UInt64

MAX_IN_MEMORY = 20_000_000
"""Documents up to which this is held in memory, about 120 bytes each; beyond, in files."""
READ_BATCH = 1 << 15
"""Documents whose sketches are read together: a call costs more than the few hundred rows of a sketch."""


@dataclass(frozen=True)
class SketchedCorpus:
    """The sketches of all shards, one entry a document in the order of the shards.

    Attributes:
        shards, names: of each shard the file with the texts, and its sketch in `folder`.
        ids: bytes strings [documents].
        characters: int64 [documents], length of the text.
        digests: int64 [documents]; a number of its own for each distinct text.
        priority: float64 [documents]; a smaller one survives.
        sources: str [sources]; source: int64 [documents], index into it.
        shard, row: int64 [documents]; where the document is.
        sizes: int64 [documents]; shingles in its set, which are word `ngram`-grams.
        keys: uint64 [bands, documents], in a file of its own.
        url, fetched_at: int64 [documents] or None: a number for each distinct address (-1: none); milliseconds.
    """

    folder: Path
    shards: Sequence[Path]
    names: list[str]
    ngram: int
    ids: npt.NDArray[Any]
    characters: Int64
    digests: Int64
    priority: npt.NDArray[np.float64]
    sources: list[str]
    source: Int64
    shard: Int64
    row: Int64
    sizes: Int64
    keys: UInt64
    url: Int64 | None = None
    fetched_at: Int64 | None = None


def load_corpus(
    folder: Path,
    sketched: Sequence[Mapping[str, Any]],
    shards: Sequence[Path],
    ngram: int,
    bands: int,
    work: Path,
    priorities: Sequence[Path] | None = None,
) -> SketchedCorpus:
    """What `sketch` returned for each of the shards, brought together.

    `priorities` are the files that `keep_rule.write_priorities` wrote, one a shard; None: all documents are alike.
    Up to MAX_IN_MEMORY documents it is in memory; that of a larger corpus lies in files of `work`, from which
    the system keeps in memory what there is room for.
    """
    lengths = np.array([shard["documents"] for shard in sketched], np.int64)
    total = int(lengths.sum())
    sources = sorted({source for shard in sketched for source in shard["sources"]})

    column = partial(corpus_array, work)
    ids = column("ids", f"S{max((shard['id_bytes'] for shard in sketched), default=1)}", total)
    columns = {name: column(name, "i8", total) for name in ("characters", "shingles", "source", "shard", "row")}
    priority, digest = column("priority", "f8", total), column("digest", "u8", total, 2)
    keys = mapped_array(work, "keys", "u8", bands, total)
    url = fetched_at = None
    begin = 0
    groups = np.flatnonzero(np.diff((np.cumsum(lengths) - lengths) // READ_BATCH, prepend=-1))
    for first, end in pairwise([*groups.tolist(), len(sketched)]):
        group, sizes = sketched[first:end], lengths[first:end]
        table = pa.concat_tables([open_sketch(folder / f"{shard['name']}.arrow") for shard in group])
        here = slice(begin, begin + len(table))
        begin = here.stop
        ids[here] = fixed_width(table.column("id"), ids.dtype)
        keys[:, here] = as_uint64(table.column("keys"), bands).T
        for name in ("characters", "shingles"):
            columns[name][here] = table.column(name).to_numpy()
        columns["source"][here] = pc.index_in(
            table.column("source"), value_set=pa.array(sources, pa.string())
        ).to_numpy()
        columns["shard"][here] = np.repeat(np.arange(first, end), sizes)
        columns["row"][here] = np.concatenate([np.arange(size) for size in sizes])
        priority[here] = np.concatenate([np.load(path) for path in priorities[first:end]]) if priorities else 0.0
        digest[here] = as_uint64(table.column("digest"), 2)
        if "url_key" in table.column_names:
            if url is None or fetched_at is None:
                url, fetched_at = column("url", "u8", total, 2), column("fetched_at", "i8", total)
            url[here] = as_uint64(table.column("url_key").fill_null(bytes(16)), 2)
            fetched_at[here] = table.column("fetched_at").to_numpy()
    if url is not None:
        known, url = (url != 0).any(axis=1), group_numbers(url)
        url[~known] = -1
    return SketchedCorpus(
        folder=folder,
        shards=shards,
        ngram=ngram,
        names=[shard["name"] for shard in sketched],
        ids=ids,
        characters=columns["characters"],
        digests=group_numbers(digest),
        priority=priority,
        sources=sources,
        source=columns["source"],
        shard=columns["shard"],
        row=columns["row"],
        sizes=columns["shingles"],
        keys=keys,
        url=url,
        fetched_at=fetched_at,
    )


def corpus_array(work: Path, name: str, kind: str, *shape: int) -> npt.NDArray[Any]:
    """An array of what the whole corpus has: in memory up to MAX_IN_MEMORY rows, beyond in a file of `work`."""
    return np.empty(shape, kind) if shape[0] <= MAX_IN_MEMORY else mapped_array(work, name, kind, *shape)


def mapped_array(work: Path, name: str, kind: str, *shape: int) -> npt.NDArray[Any]:
    """An array in a new file of `work`, memory-mapped."""
    if 0 in shape:
        return np.empty(shape, kind)
    return np.lib.format.open_memmap(work / f"{name}.npy", "w+", np.dtype(kind), shape)


def as_uint64(fixed: pa.ChunkedArray, width: int) -> UInt64:
    """Fixed-size binary values of `width` times 8 bytes as uint64 [values, width]."""
    array = fixed.combine_chunks()
    halves: UInt64 = np.frombuffer(array.buffers()[1] or b"", np.uint64).reshape(-1, width)
    return halves[array.offset : array.offset + len(array)]


def group_numbers(digests: UInt64) -> Int64:
    """For each digest, uint64 [digests, 2], a number that equal ones share, int64."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    new = np.zeros(len(order), np.int64)
    for half in range(2):
        column = digests[order, half]
        new[1:] |= column[1:] != column[:-1]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(new)
    return numbers


def fixed_width(strings: pa.ChunkedArray, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """Strings as numpy bytes of a width; where all are as long as that, without a Python object for each."""
    array = strings.combine_chunks().cast(pa.large_binary())
    if len(array) and pc.all(pc.equal(pc.binary_length(array), kind.itemsize)).as_py():
        first = np.frombuffer(array.buffers()[1], np.int64)[array.offset]
        return np.frombuffer(array.buffers()[2], kind, len(array), first)
    return np.array(array.to_pylist(), kind)
