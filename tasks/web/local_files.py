"""A source of local files: in parts of whole files, so that many of them are shared out among the workers."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import cast

from tasks.text import files
from tasks.text.row_items import Columns, Item
from tasks.web.intake import Counts, Intake
from tasks.web.parts import Part, read_parts
from tasks.web.sources import FilesSource
from tasks.web.warc import resource_record

PART_BYTES = 16 << 20
"""Bytes on disk after which a new part begins: set by the files alone, so that the shards do not depend on the workers."""


def read(source: FilesSource, root: Path) -> list[Counts]:
    """Read the source's files into `documents`, `removed` and, HTML, `web/<source>` under `root`; returns the counts.

    Raises:
        UserError: a pattern matches no file; a file has an unknown suffix, cannot be opened, changes meanwhile, or is
            Parquet without a footer or the columns.
    """
    where = f"params.yaml: scrape.sources: {source.name}"
    found, others = files.find(source.paths, Path.cwd(), source.format, where)
    counts = read_parts(_parts([path for path, _ in found]), source, root, partial(_take, source=source))
    return [*counts, Counts(outcomes=Counter(unknown_suffix=len(others)))]


def _parts(paths: list[Path]) -> list[Part]:
    parts: list[list[str]] = []
    size = PART_BYTES
    for path in paths:
        if size >= PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(str(path))
        size += path.stat().st_size
    return [Part(number, tuple(part)) for number, part in enumerate(parts)]


def _take(part: Part, intake: Intake, source: FilesSource) -> None:
    """Documents of files; HTML files become pages, for extraction is a later stage's work."""
    root = Path.cwd()
    how = files.Reading(Columns(source.text_column, source.messages_column), source.encoding, source.max_bytes)
    media = f"text/html; charset={source.encoding}" if source.encoding else "text/html"
    for path in map(Path, part.paths):
        kind = cast(files.Format, files.format_of(path, source.format))  # `find` takes only files of known format
        if kind != "html":
            for item in files.read(path, kind, root, how):
                intake.add(item)
        elif isinstance(page := files.read_page(path, root, source.max_bytes), Item):
            intake.add(page)
        else:
            intake.page(*page, resource_record(page[0], media, page[1]))
