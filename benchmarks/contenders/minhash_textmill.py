"""Bytes to 128 minima by the kernels that the stage uses."""

from collections.abc import Iterator

import pyarrow as pa
from texts import bytes_of, clock, documents, report

from tasks.documents.shards import SHARD_BYTES
from tasks.similarity import kernels, shingles
from tasks.similarity.canonical_columns import utf8_buffers


def batched(texts: list[str]) -> Iterator[tuple[shingles.UInt8, shingles.Int64]]:
    """Arrow buffers of SHARD_BYTES each, as the stage's shards are."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= SHARD_BYTES:
            yield utf8_buffers(pa.array(batch, pa.large_string()))
            batch, size = [], 0
    yield utf8_buffers(pa.array(batch, pa.large_string()))


if __name__ == "__main__":
    kernels.compile_kernels()
    texts = documents()
    size, batches = bytes_of(texts), list(batched(texts))
    started, count = clock(), 0
    for data, offsets in batches:
        count += len(shingles.minhash_signatures(*shingles.shingle_lists(data, offsets, 5), 128, 1))
    report(started, size, signatures=count)
