"""A source of web archives, its files read at the same time; the result is the same whatever the number of workers."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.engine import map_shards
from tasks.web.file_systems import without_secrets
from tasks.web.intake import Counts, Intake, metrics
from tasks.web.remote import expand
from tasks.web.sources import WarcSource
from tasks.web.warc_source import network, read_file

ID_BYTES = 16


@dataclass(frozen=True)
class Unit:
    """A file of the source, by its number; `known`: ids that files before it have."""

    number: int
    path: str
    known: frozenset[bytes] = frozenset()

    def __str__(self) -> str:
        return without_secrets(self.path)

    @property
    def part(self) -> str:
        """What leads the names of the shards that the file becomes."""
        return f"{self.number:05d}-"


def read(source: WarcSource, root: Path) -> dict[str, Any]:
    """Read the source's files into `documents`, `removed` and `web/<source>` under `root`; returns its metrics.

    Each file has shards of its own. The files are read by the workers of execution.yaml, unless `max_pages` makes what
    is read of one depend on those before it. The ids, 16 bytes a page, are held in memory.

    Raises:
        UserError: a path matches nothing, a file, list or package is missing, or nothing usable came.
    """
    where = f"params.yaml: scrape.sources: {source.name}"
    units: list[Unit] = []
    for path in expand(source.paths, source.prefix, network(source), where):
        if len(units) == source.max_files:
            break
        units.append(Unit(len(units), path))
    counts = _in_turn(units, source, root) if source.max_pages is not None else _at_once(units, source, root)
    return {**metrics(source.name, counts), "files": len(counts)}


def _read(unit: Unit, source: WarcSource, root: Path, limit: int | None = None) -> Counts:
    intake = Intake(root, source.name, source.licence, unit.part, unit.known)
    read_file(unit.path, source, intake, limit)
    return intake.close()


def _in_turn(units: list[Unit], source: WarcSource, root: Path) -> list[Counts]:
    counts: list[Counts] = []
    known: set[bytes] = set()
    left = source.max_pages or 0
    for unit in units:
        if not left:
            break
        found = _read(Unit(unit.number, unit.path, frozenset(known)), source, root, left)
        known.update(_ids(found))
        left -= found.outcomes["saved"]
        counts.append(found)
    return counts


def _at_once(units: list[Unit], source: WarcSource, root: Path) -> list[Counts]:
    read = partial(_read, source=source, root=root)
    counts = list(map_shards(read, units, f"scrape: {source.name}"))
    again = [Unit(units[number].number, units[number].path, known) for number, known in _repeated(counts).items()]
    for unit in again:  # the same pages in two files: the later one is read again without them
        for folder, name in (
            ("documents", source.name + "-"),
            ("removed", source.name + "-"),
            (f"web/{source.name}", ""),
        ):
            for path in (root / folder).glob(f"{name}{unit.part}*"):
                path.unlink()
    for unit, found in zip(again, map_shards(read, again, f"scrape: {source.name}: repeated pages"), strict=True):
        counts[unit.number] = found
    return counts


def _repeated(counts: list[Counts]) -> dict[int, frozenset[bytes]]:
    """Number of each file that has ids which a file before it has → those ids."""
    raw = b"".join(found.ids for found in counts)
    halves = np.frombuffer(raw, dtype=np.uint64).reshape(-1, 2)
    owner = np.repeat(np.arange(len(counts)), [len(found.ids) // ID_BYTES for found in counts])
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: among equal ids the file that comes first is their owner
    same = np.flatnonzero((halves[order[1:]] == halves[order[:-1]]).all(axis=1)) + 1
    repeated: dict[int, set[bytes]] = {}
    for position in order[same].tolist():
        repeated.setdefault(int(owner[position]), set()).add(raw[position * ID_BYTES : (position + 1) * ID_BYTES])
    return {number: frozenset(known) for number, known in sorted(repeated.items())}


def _ids(found: Counts) -> list[bytes]:
    return [found.ids[at : at + ID_BYTES] for at in range(0, len(found.ids), ID_BYTES)]
