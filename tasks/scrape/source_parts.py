"""A source of files in parts that are read at the same time; the result is the same whatever the number of workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tasks.core.parallel.engine import map_shards
from tasks.scrape.source_writer import ScrapeCounts, SourceWriter
from tasks.scrape.sources import FilesSource, WarcSource
from tasks.scrape.warc.file_systems import without_secrets

ID_BYTES = 16


@dataclass(frozen=True)
class Part:
    """Files of a source, by the part's number; `known_ids`: ids that parts before it have."""

    number: int
    paths: tuple[str, ...]
    known_ids: frozenset[bytes] = frozenset()

    def __str__(self) -> str:
        return without_secrets(self.paths[0]) + (f" and {len(self.paths) - 1} more" if self.paths[1:] else "")


ReadPart = Callable[[Part, SourceWriter], None]
"""Reads a part's files into a writer; a module-level function or a `functools.partial` of one."""


def read_part(part: Part, source: FilesSource | WarcSource, root: Path, read_files: ReadPart) -> ScrapeCounts:
    """Read one part into shards of its own under `root`."""
    writer = SourceWriter(root, source.name, source.licence, f"{part.number:05d}-", part.known_ids)
    read_files(part, writer)
    return writer.close()


def read_parts(
    parts: Sequence[Part], source: FilesSource | WarcSource, root: Path, read_files: ReadPart
) -> list[ScrapeCounts]:
    """Read the parts, by the workers of execution.yaml; of what several have, the first keeps it.

    The ids, 16 bytes a document or page, are held in memory.
    """
    read = partial(read_part, source=source, root=root, read_files=read_files)
    counts = list(map_shards(read, parts, f"scrape: {source.name}"))
    # The same in two parts: the later one is read again without it, over what it has written.
    again = [replace(parts[number], known_ids=known) for number, known in _repeated(counts).items()]
    for part, found in zip(again, map_shards(read, again, f"scrape: {source.name}: repeated pages"), strict=True):
        counts[part.number] = found
    return counts


def _repeated(counts: Sequence[ScrapeCounts]) -> dict[int, frozenset[bytes]]:
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


def part_ids(found: ScrapeCounts) -> list[bytes]:
    """The ids of a part's documents and pages."""
    return [found.ids[at : at + ID_BYTES] for at in range(0, len(found.ids), ID_BYTES)]
