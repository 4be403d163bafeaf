"""A source of files in parts that are read at the same time; the result is the same whatever the number of workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tasks.core.parallel.engine import map_shards
from tasks.scrape.document_writer import Counts, Intake
from tasks.scrape.sources import FilesSource, WarcSource
from tasks.scrape.warc.file_systems import without_secrets

ID_BYTES = 16


@dataclass(frozen=True)
class Part:
    """Files of a source, by the part's number; `known`: ids that parts before it have."""

    number: int
    paths: tuple[str, ...]
    known: frozenset[bytes] = frozenset()

    def __str__(self) -> str:
        return without_secrets(self.paths[0]) + (f" and {len(self.paths) - 1} more" if self.paths[1:] else "")


Take = Callable[[Part, Intake], None]
"""Reads a part's files into an intake; a module-level function or a `functools.partial` of one."""


def read_part(part: Part, source: FilesSource | WarcSource, root: Path, take: Take) -> Counts:
    """Read one part into shards of its own under `root`."""
    intake = Intake(root, source.name, source.licence, f"{part.number:05d}-", part.known)
    take(part, intake)
    return intake.close()


def read_parts(parts: Sequence[Part], source: FilesSource | WarcSource, root: Path, take: Take) -> list[Counts]:
    """Read the parts, by the workers of execution.yaml; of what several have, the first keeps it.

    The ids, 16 bytes a document or page, are held in memory.
    """
    read = partial(read_part, source=source, root=root, take=take)
    counts = list(map_shards(read, parts, f"scrape: {source.name}"))
    # The same in two parts: the later one is read again without it, over what it has written.
    again = [replace(parts[number], known=known) for number, known in _repeated(counts).items()]
    for part, found in zip(again, map_shards(read, again, f"scrape: {source.name}: repeated pages"), strict=True):
        counts[part.number] = found
    return counts


def _repeated(counts: Sequence[Counts]) -> dict[int, frozenset[bytes]]:
    """Number of each part that has ids which a part before it has → those ids."""
    raw = b"".join(found.ids for found in counts)
    halves = np.frombuffer(raw, dtype=np.uint64).reshape(-1, 2)
    owner = np.repeat(np.arange(len(counts)), [len(found.ids) // ID_BYTES for found in counts])
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: among equal ids the part that comes first is their owner
    same = np.flatnonzero((halves[order[1:]] == halves[order[:-1]]).all(axis=1)) + 1
    repeated: dict[int, set[bytes]] = {}
    for position in order[same].tolist():
        repeated.setdefault(int(owner[position]), set()).add(raw[position * ID_BYTES : (position + 1) * ID_BYTES])
    return {number: frozenset(known) for number, known in sorted(repeated.items())}


def ids_of(found: Counts) -> list[bytes]:
    """The ids of a part's documents and pages."""
    return [found.ids[at : at + ID_BYTES] for at in range(0, len(found.ids), ID_BYTES)]
