"""Bytes to 128 minima by the kernels that the stage uses."""

import pyarrow as pa
from texts import bytes_of, clock, documents, report

from tasks.text import kernels, shingles
from tasks.text.comparable_columns import utf8_buffers

if __name__ == "__main__":
    kernels.prepare()
    texts = documents()
    data, offsets = utf8_buffers(pa.array(texts, pa.large_string()))
    started = clock()
    minima = shingles.signatures(*shingles.shingle_lists(data, offsets, 5), 128, 1)
    report(started, bytes_of(texts), signatures=len(minima))
