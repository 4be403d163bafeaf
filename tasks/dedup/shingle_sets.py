"""The shingle sets of some documents of a corpus, made anew from their texts by the workers."""

import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.core.errors import UserError
from tasks.core.parallel.engine import map_shards
from tasks.dedup.sketched_corpus import SketchedCorpus
from tasks.documents.shards import read_shard
from tasks.similarity import shingles
from tasks.similarity.canonical_columns import canonical_column
from tasks.similarity.shingles import Int64, UInt64

JOB_SHINGLES = 1 << 19
"""Shingles that are brought together in one go, a few shards' at least: spares files, and handing them over."""


class ShingleJob(NamedTuple):
    """Of some shards the rows whose sets are wanted, int64, and where these are to be written."""

    shards: list[Path]
    rows: list[Int64]
    size: int
    target: Path

    def __str__(self) -> str:
        return str(self.shards[0]) if len(self.shards) == 1 else f"{self.shards[0]} to {self.shards[-1].name}"


def gather_shingle_sets(corpus: SketchedCorpus, documents: Int64, target: Path) -> tuple[UInt64, Int64]:
    """Bring the shingle sets of some documents (ascending) into one file, memory-mapped: uint64.

    Returns it with where each document's begin, int64 [all documents], -1 for the others.
    """
    starts = np.full(len(corpus.ids), -1, np.int64)
    ends = np.cumsum(corpus.sizes[documents])
    starts[documents] = ends - corpus.sizes[documents]
    if not len(ends) or not ends[-1]:
        return np.zeros(0, np.uint64), starts
    write = partial(write_shingle_sets, ngram=corpus.ngram)
    with target.open("wb") as whole:
        for part in map_shards(write, _jobs(corpus, documents, target), "dedup: shingles"):
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
            part.unlink()
    return np.memmap(target, np.uint64, "r"), starts


def _jobs(corpus: SketchedCorpus, documents: Int64, target: Path) -> list[ShingleJob]:
    documents = documents[corpus.sizes[documents] > 0]
    borders = np.searchsorted(corpus.shard[documents], np.arange(len(corpus.shards) + 1))
    jobs: list[ShingleJob] = []
    for shard, begin, end in zip(corpus.shards, borders, borders[1:], strict=False):
        if begin == end:
            continue
        here = documents[begin:end]
        rows, size = corpus.row[here], int(corpus.sizes[here].sum())
        if jobs and jobs[-1].size < JOB_SHINGLES:
            last = jobs[-1]
            jobs[-1] = last._replace(shards=[*last.shards, shard], rows=[*last.rows, rows], size=last.size + size)
        else:
            jobs.append(ShingleJob([shard], [rows], size, target.with_suffix(f".{len(jobs)}")))
    return jobs


def write_shingle_sets(job: ShingleJob, ngram: int) -> Path:
    """Write the shingle sets, one behind the other; returns the file.

    Raises:
        UserError: the texts are not those that were sketched.
    """
    written = 0
    with job.target.open("wb") as file:
        for shard, rows in zip(job.shards, job.rows, strict=True):
            texts = read_shard(shard, ["text"]).column("text")
            if len(texts) > rows[-1]:
                hashes, _ = shingles.shingle_sets(*canonical_column(texts.take(rows)), ngram)
                hashes.tofile(file)
                written += len(hashes)
    if written != job.size:
        raise UserError(f"{job} changed while dedup worked on it. Start again.")
    return job.target
