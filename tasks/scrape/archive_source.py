"""A source of web archives: each file a part of its own, in turn where a limit makes one depend on those before it."""

from functools import partial
from pathlib import Path

from tasks.scrape.archive_documents import network, read_file
from tasks.scrape.document_writer import Counts, Intake
from tasks.scrape.source_parts import Part, ids_of, read_part, read_parts
from tasks.scrape.sources import WarcSource
from tasks.scrape.warc.remote_files import expand


def read(source: WarcSource, root: Path) -> list[Counts]:
    """Read the source's files into `documents`, `removed` and `web/<source>` under `root`; returns the counts of each.

    Raises:
        UserError: a path matches nothing, or a file, list or package is missing.
    """
    where = f"params.yaml: scrape.sources: {source.name}"
    parts: list[Part] = []
    for path in expand(source.paths, source.prefix, network(source), where):
        if len(parts) == source.max_files:
            break
        parts.append(Part(len(parts), (path,)))
    if source.max_pages is None:
        return read_parts(parts, source, root, partial(_take, source=source))
    return _in_turn(parts, source, root, source.max_pages)


def _take(part: Part, intake: Intake, source: WarcSource, limit: int | None = None) -> None:
    for path in part.paths:
        read_file(path, source, intake, limit)


def _in_turn(parts: list[Part], source: WarcSource, root: Path, left: int) -> list[Counts]:
    counts: list[Counts] = []
    known: set[bytes] = set()
    for part in parts:
        if not left:
            break
        take = partial(_take, source=source, limit=left)
        found = read_part(Part(part.number, part.paths, frozenset(known)), source, root, take)
        known.update(ids_of(found))
        left -= found.outcomes["saved"]
        counts.append(found)
    return counts
