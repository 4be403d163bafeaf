"""A source of local files: in parts of whole files, so that many of them are shared out among the workers."""

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from tasks.formats.file_kinds import MEDIA_TYPES, Format, format_of, require_package
from tasks.scrape.files import file_reader
from tasks.scrape.files.row_documents import Columns, ScrapedDocument, WrongColumns, unreadable_document
from tasks.scrape.source_parts import Part, read_parts
from tasks.scrape.source_writer import ScrapeCounts, SourceWriter
from tasks.scrape.sources import FilesSource
from tasks.scrape.warc.warc_writer import resource_record

log = logging.getLogger(__name__)
PART_BYTES = 16 << 20
"""Bytes on disk after which a new part begins: set by the files alone, so that the shards do not depend on the workers."""


def read(source: FilesSource, root: Path) -> list[ScrapeCounts]:
    """Read the source's files into `documents`, `removed` and, what `clean` makes text of, `web/<source>` under `root`.

    Returns the counts.

    Raises:
        UserError: a pattern matches no file or names one of unknown kind, a file that was asked for by its kind lacks the
            columns, one cannot be opened or changes meanwhile, or a package is missing.
    """
    where = f"params.yaml: scrape.sources: {source.name}"
    found = file_reader.find_files(source.paths, Path.cwd(), source.format, where)
    for kind in sorted({file.kind for file in found if file.kind}):
        require_package(kind, where)
    explicit = frozenset(str(file.path) for file in found if file.explicit)
    counts = read_parts(_parts(found), source, root, partial(_read_part, source=source, explicit=explicit))
    if unread := Counter(file.path.suffix.lower() or "no suffix" for file in found if file.kind is None):
        named = ", ".join(f"{suffix} {count}" for suffix, count in unread.most_common())
        log.warning("%s: %d files are of a kind that is not read: %s", where, unread.total(), named)
    return counts


def _parts(found: Sequence[file_reader.SourceFile]) -> list[Part]:
    parts: list[list[str]] = []
    size = PART_BYTES
    for file in found:
        if size >= PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(str(file.path))
        size += file.path.stat().st_size if file.kind else 0
    return [Part(number, tuple(part)) for number, part in enumerate(parts)]


def _read_part(part: Part, writer: SourceWriter, source: FilesSource, explicit: Collection[str]) -> None:
    """Documents of files; what is no plain text or rows of it becomes pages, for extraction is a later stage's work."""
    root = Path.cwd()
    options = file_reader.ReadOptions(
        Columns(source.text_column, source.messages_column), source.encoding, source.max_bytes
    )
    for name in part.paths:
        path = Path(name)
        if path.is_relative_to(root):  # what is told of it is the same in every checkout
            path = path.relative_to(root)
        kind = format_of(path, source.format)
        if kind is None:
            writer.add_document(file_reader.unknown_kind_document(path, root))
        elif kind in MEDIA_TYPES:
            _add_pages(path, kind, writer, source)
        else:
            try:
                for document in file_reader.read_file(path, kind, root, options):
                    writer.add_document(document)
            except WrongColumns as error:
                if name in explicit:
                    raise
                writer.add_document(
                    unreadable_document(str(path), file_reader.file_url(path, root), "no_text_column", str(error))
                )


def _add_pages(path: Path, kind: Format, writer: SourceWriter, source: FilesSource) -> None:
    media = MEDIA_TYPES[kind]
    if source.encoding and media.startswith("text/"):
        media += f"; charset={source.encoding}"
    for page in file_reader.read_pages(path, kind, Path.cwd(), source.max_bytes):
        if isinstance(page, ScrapedDocument):
            writer.add_document(page)
        else:
            writer.add_page(*page, resource_record(page[0], media, page[1]))
