"""Duplicates of a corpus in three steps: sketch each shard, find the clusters, tell each shard what to remove.

Texts stay in the workers. What the shards leave in the work folder: ids, lengths and digests; one 64-bit key a band
and document; the sorted shingle hashes, which the search reads through a memory map, pair by pair.
"""

import logging
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.progress import Progress
from tasks.text import lsh, shingles
from tasks.text.comparable import NORMALISER, comparable, digest
from tasks.text.documents import read_shard, write_shard
from tasks.text.shingles import Int64, UInt8, UInt64
from tasks.text.sizes import by_source

log = logging.getLogger(__name__)
VERDICT = pa.schema(
    [
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("kept_id", pa.string()),
        ("similarity", pa.float64()),
    ]
)


def prepare() -> None:
    """Compile the kernels, or load them from numba's cache; what is damaged there is dropped and compiled anew.

    Called before the workers start, so that they find the machine code instead of each compiling it.
    """
    try:
        _try_kernels()
    except Exception as error:
        log.warning("dedup: numba's cache is damaged (%r); compiling anew", error)
        for module in (shingles, lsh):
            for kernel in vars(module).values():
                if folder := getattr(getattr(kernel, "stats", None), "cache_path", None):
                    for path in Path(folder).glob(f"{module.__name__.rpartition('.')[2]}.*.nb[ci]"):
                        path.unlink(missing_ok=True)
        _try_kernels()


def _try_kernels() -> None:
    hashes, offsets = shingles.shingle_sets(*_utf8(["a b c", "a b c"]), 3)
    keys = lsh.band_keys(shingles.signatures(hashes, offsets, 1, 1), 1, 1)
    hashes.flags.writeable = False  # as the memory map is
    lsh.clusters(keys, hashes, offsets[:-1], np.diff(offsets), 1.0)
    lsh.similarities(hashes, offsets[:-1], np.diff(offsets), np.zeros((1, 2), np.int64))


def sketch(shard: Path, folder: Path, ngram: int, bands: int, rows: int, seed: int) -> dict[str, Any]:
    """Write ids, digests, band keys and shingle sets of a shard's documents into `folder`; returns counts by source."""
    table = read_shard(shard, ["id", "text", "source"])
    texts = [comparable(text or "") for text in table.column("text").to_pylist()]
    hashes, offsets = shingles.shingle_sets(*_utf8(texts), ngram)
    minima = shingles.signatures(hashes, offsets, bands * rows, seed)
    np.save(folder / f"{shard.stem}.keys.npy", lsh.band_keys(minima, bands, rows))
    hashes.tofile(folder / f"{shard.stem}.u64")
    catalogue = {
        "id": table.column("id"),
        "characters": pa.array([len(text or "") for text in table.column("text").to_pylist()], pa.int64()),
        "digest": pa.array([digest(text) for text in texts], pa.binary(16)),
        "shingles": pa.array(np.diff(offsets)),
    }
    write_shard(pa.table(catalogue), folder / f"{shard.stem}.parquet")
    return {"sources": by_source(table)}


def _utf8(texts: list[str]) -> tuple[UInt8, Int64]:
    column = pa.array(texts, pa.large_string())
    _, offsets, data = column.buffers()
    borders = np.frombuffer(offsets, np.int64)[: len(texts) + 1] if len(texts) else np.zeros(1, np.int64)
    return np.frombuffer(data or b"", np.uint8), borders


@dataclass(frozen=True)
class Corpus:
    """The sketches of all shards, one entry a document in the order of the shards.

    Attributes:
        ids: bytes strings [documents].
        characters: int64 [documents], length of the text.
        digests: void [documents] of 16 bytes; equal for equal texts.
        shard, row: int64 [documents]; where the document is.
        shingles: uint64, memory-mapped; document i's sorted set is `shingles[starts[i]:starts[i] + sizes[i]]`.
        keys: for each shard the memory-mapped band keys, uint64 [bands, documents of the shard].
    """

    names: list[str]
    ids: npt.NDArray[Any]
    characters: Int64
    digests: npt.NDArray[Any]
    shard: Int64
    row: Int64
    shingles: UInt64
    starts: Int64
    sizes: Int64
    keys: list[UInt64]


def load(folder: Path, names: list[str]) -> Corpus:
    """Bring the sketches of the shards `names` together, their shingles into one file."""
    tables = [read_shard(folder / f"{name}.parquet") for name in names]
    everything = pa.concat_tables(tables).combine_chunks()
    together = folder / "all.u64"
    with together.open("wb") as target:
        for name in names:
            part = folder / f"{name}.u64"
            with part.open("rb") as source:
                while block := source.read(1 << 24):
                    target.write(block)
            part.unlink()
    sizes = everything.column("shingles").to_numpy().astype(np.int64)
    lengths = [len(table) for table in tables]
    digests = np.frombuffer(b"".join(everything.column("digest").to_pylist()), dtype="V16")
    return Corpus(
        names=names,
        ids=np.array([str(name).encode() for name in everything.column("id").to_pylist()], dtype=np.bytes_),
        characters=everything.column("characters").to_numpy().astype(np.int64),
        digests=digests,
        shard=np.repeat(np.arange(len(names)), lengths),
        row=np.concatenate([np.arange(length) for length in lengths]),
        shingles=np.memmap(together, np.uint64, "r") if sizes.sum() else np.zeros(0, np.uint64),
        starts=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if len(sizes) else sizes,
        sizes=sizes,
        keys=[np.load(folder / f"{name}.keys.npy", mmap_mode="r") for name in names],
    )


@dataclass(frozen=True)
class Found:
    """Which documents go, in ascending order, and for which they go.

    Attributes:
        removed, kept: int64 [removed]: a document and the one that is kept in its place.
        exact: bool [removed]: it equals another document that is not itself an exact duplicate.
        equal_to: int64 [removed]: that document where exact; it may itself be gone as a near-duplicate of `kept`.
        similarity: float64 [removed]: exact Jaccard similarity to `kept`.
    """

    removed: Int64
    kept: Int64
    exact: npt.NDArray[np.bool_]
    equal_to: Int64
    similarity: npt.NDArray[np.float64]
    metrics: dict[str, int]


def find(corpus: Corpus, bands: int, threshold: float) -> Found:
    """Clusters of equal, then of similar documents; survivors by length, then id, then place."""
    documents = len(corpus.ids)
    place = np.arange(documents)
    by_rank = np.lexsort((place, corpus.ids, -corpus.characters))  # the best survivor first
    equal_labels = np.unique(corpus.digests, return_inverse=True)[1].reshape(-1) if documents else place
    equal_to = _first_of(equal_labels, by_rank)
    distinct = np.flatnonzero(equal_to == place)
    distinct = distinct[np.argsort(corpus.ids[distinct], kind="stable")]  # an order that no shard decides

    with Progress("dedup: comparing", total=bands, unit="bands") as progress:

        def keys() -> Iterator[UInt64]:
            for band in range(bands):
                yield np.concatenate([shard[band] for shard in corpus.keys])[distinct]
                progress.advance()

        labels, work = lsh.clusters(keys(), corpus.shingles, corpus.starts[distinct], corpus.sizes[distinct], threshold)
    if work["capped"]:
        log.warning(
            "dedup: %d times a document shared a band with more than %d clusters and was compared with these only. "
            "If the texts share much boilerplate, raise dedup.rows.",
            *(work["capped"], lsh.FAN),
        )
    near_labels = np.full(documents, -1)
    near_labels[distinct] = labels
    kept = _first_of(near_labels[equal_to], by_rank)
    removed = np.flatnonzero(kept != place)
    pairs = np.stack([equal_to[removed], kept[removed]], axis=1)
    same = corpus.digests[removed] == corpus.digests[kept[removed]]
    similarity = lsh.similarities(corpus.shingles, corpus.starts, corpus.sizes, pairs)
    similarity[same] = 1.0  # also where the text is too short for a shingle
    cluster_sizes = np.bincount(kept, minlength=documents)
    near_sizes = np.bincount(labels) if len(labels) else np.zeros(0, np.int64)
    return Found(
        removed=removed,
        kept=kept[removed],
        exact=equal_to[removed] != removed,
        equal_to=equal_to[removed],
        similarity=similarity,
        metrics={
            "clusters": int((cluster_sizes > 1).sum()),
            "near_duplicate_clusters": int((near_sizes > 1).sum()),
            "largest": int(cluster_sizes.max(initial=0)),
            "too_short_for_shingles": int((corpus.sizes == 0).sum()),
            "pairs_compared": work["compared"],
        },
    )


def _first_of(labels: Int64, order: Int64) -> Int64:
    """For each document, the first one in `order` that has its label."""
    _, first, inverse = np.unique(labels[order], return_index=True, return_inverse=True)
    out = np.empty(len(labels), np.int64)
    out[order] = order[first[inverse]]
    return out


def write_verdicts(corpus: Corpus, found: Found, folder: Path) -> None:
    """For each shard, `<name>.parquet` with the rows to remove, in order, and why."""
    shard = corpus.shard[found.removed]
    for number, name in enumerate(corpus.names):
        here = np.flatnonzero(shard == number)
        rows = [
            {
                "row": corpus.row[found.removed[k]],
                "reason": "exact_duplicate" if found.exact[k] else "near_duplicate",
                "detail": None
                if not found.exact[k] or found.equal_to[k] == found.kept[k]
                else f"same text as {corpus.ids[found.equal_to[k]].decode()}, a near-duplicate",
                "kept_id": corpus.ids[found.kept[k]].decode(),
                "similarity": found.similarity[k],
            }
            for k in here
        ]
        write_shard(pa.Table.from_pylist(rows, schema=VERDICT), folder / f"{name}.parquet")


def description(ngram: int, bands: int, rows: int, seed: int) -> dict[str, Any]:
    """Everything that two signatures must have in common to be comparable."""
    return {
        "scheme": shingles.SCHEME,
        "permutations": bands * rows,
        "seed": seed,
        "bands": bands,
        "rows": rows,
        "normaliser": NORMALISER,
        "shingler": shingles.SHINGLER,
        "words_per_shingle": ngram,
        "word_hash": shingles.WORD_HASH,
        "shingle_hash": shingles.SHINGLE_HASH,
        "minhash_input": "the lower 32 bits of the shingle hash",
        "unicode": unicodedata.unidata_version,
    }
