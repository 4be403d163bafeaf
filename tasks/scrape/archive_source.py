"""A source of web archives: each file a part of its own, in turn where a limit makes one depend on those before it."""

from functools import partial
from pathlib import Path

from tasks.scrape.archive_documents import network_limits, read_archive
from tasks.scrape.source_parts import Part, part_ids, read_part, read_parts
from tasks.scrape.source_writer import ScrapeCounts, SourceWriter
from tasks.scrape.sources import WarcSource
from tasks.scrape.warc.remote_files import expand_paths


def read(source: WarcSource, root: Path) -> list[ScrapeCounts]:
    """Read the source's files into `documents`, `removed` and `web/<source>` under `root`; returns the counts of each.

    Raises:
        UserError: a path matches nothing, or a file, list or package is missing.
    """
    where = f"params.yaml: scrape.sources: {source.name}"
    parts: list[Part] = []
    for path in expand_paths(source.paths, source.prefix, network_limits(source), where):
        if len(parts) == source.max_files:
            break
        parts.append(Part(len(parts), (path,)))
    if source.max_pages is None:
        return read_parts(parts, source, root, partial(_read_part, source=source))
    return _in_turn(parts, source, root, source.max_pages)


def _read_part(part: Part, writer: SourceWriter, source: WarcSource, limit: int | None = None) -> None:
    for path in part.paths:
        read_archive(path, source, writer, limit)


def _in_turn(parts: list[Part], source: WarcSource, root: Path, left: int) -> list[ScrapeCounts]:
    counts: list[ScrapeCounts] = []
    known: set[bytes] = set()
    for part in parts:
        if not left:
            break
        read_files = partial(_read_part, source=source, limit=left)
        found = read_part(Part(part.number, part.paths, frozenset(known)), source, root, read_files)
        known.update(part_ids(found))
        left -= found.outcomes["saved"]
        counts.append(found)
    return counts
