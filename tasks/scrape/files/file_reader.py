"""Local files: found by globs and folders, read into documents. What cannot be used comes out as well, with the reason."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tasks.core.errors import UserError
from tasks.formats.compressed import DamagedFile, FileStream, format_suffix
from tasks.formats.encodings.decode import decode_file
from tasks.formats.file_kinds import LANGUAGES, Format, format_of, known_suffixes
from tasks.formats.symlinks import contained_matches, paths_within
from tasks.scrape.files.csv_files import read_csv
from tasks.scrape.files.json_files import read_json
from tasks.scrape.files.line_files import read_jsonl
from tasks.scrape.files.mbox_files import read_mbox
from tasks.scrape.files.parquet_files import read_parquet
from tasks.scrape.files.row_documents import Columns, ScrapedDocument, unreadable_document

FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(.{0,20000}?)^---[ \t]*\r?(?:\n|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class ReadOptions:
    """How files are read: their columns, the declared encoding (None: detected), bytes of a document or line at most."""

    columns: Columns
    encoding: str | None
    max_bytes: int


@dataclass(frozen=True)
class SourceFile:
    """A file, its kind (None: one that is not read), and whether it was asked for by its kind: by name, by a glob with
    its suffix, or by a `format`. A mistake in such a file is the user's; in others it costs the file.
    """

    path: Path
    kind: Format | None
    explicit: bool


def find_files(patterns: Sequence[str], root: Path, wanted: str, where: str) -> list[SourceFile]:
    """The files that the globs match or that lie under the folders named, sorted, each once.

    Hidden files and folders (`.git`) are passed over where the pattern does not name them.

    Raises:
        UserError: a pattern matches no file, or is the name of a file of unknown kind.
    """
    found: dict[Path, SourceFile] = {}
    for pattern in patterns:
        alone = (root / pattern).is_file()
        paths = [root / pattern] if alone else _matches(pattern, root)
        if not paths:
            raise UserError(f"{where}: paths: {pattern!r} matches no file under {root}")
        suffix = format_suffix(Path(pattern))
        for path in paths:
            kind = format_of(path, wanted)
            if kind is None and alone:
                raise UserError(
                    f"{where}: {path}: the suffix {path.suffix!r} does not tell the kind of the file. Set format, or "
                    f"give it one of the suffixes {known_suffixes()}."
                )
            explicit = alone or wanted != "auto" or (suffix != "" and suffix == format_suffix(path))
            found[path] = SourceFile(path, kind, explicit or (path in found and found[path].explicit))
    return [found[path] for path in sorted(found)]


def _matches(pattern: str, root: Path) -> list[Path]:
    if not (root / pattern).is_dir():
        paths = [Path(match) for match in glob.glob(str(root / pattern), recursive=True)]  # noqa: PTH207  absolute patterns too
        return contained_matches((path for path in paths if path.is_file()), root / pattern)
    paths = []
    for at, folders, names in os.walk(root / pattern):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(at) / name for name in names if not name.startswith(".")]
    return paths_within((path for path in paths if path.is_file()), root / pattern)


def file_url(path: Path, root: Path) -> str:
    """The `file:` URL: relative to the project where the file lies in it, so that it is the same in every checkout."""
    absolute = path.absolute()
    if absolute.is_relative_to(root.absolute()):
        return "file:" + quote(absolute.relative_to(root.absolute()).as_posix())
    return absolute.as_uri()


def unknown_kind_document(path: Path, root: Path) -> ScrapedDocument:
    """The removed document that a file of unknown kind becomes."""
    named = f"the suffix {path.suffix!r} is" if path.suffix else "a name without a suffix is"
    return unreadable_document(
        str(path), file_url(path, root), "unknown_kind", f"{path}: {named} that of no kind that is read"
    )


def read_file(path: Path, kind: Format, root: Path, options: ReadOptions) -> Iterator[ScrapedDocument]:
    """The documents of one file, in its order.

    Raises:
        WrongColumns: it has none of the columns.
        UserError: the file cannot be opened, or changes meanwhile.
    """
    url = file_url(path, root)
    if kind == "jsonl":
        yield from read_jsonl(path, url, options.columns, options.encoding, options.max_bytes)
    elif kind == "json":
        yield from read_json(path, url, options.columns, options.encoding, options.max_bytes)
    elif kind in ("csv", "tsv"):
        yield from read_csv(path, url, options.columns, options.encoding, options.max_bytes, tabs=kind == "tsv")
    elif kind == "parquet":
        yield from read_parquet(path, url, options.columns, options.max_bytes)
    else:
        yield _text(path, url, kind, options)


def read_pages(path: Path, kind: Format, root: Path, max_bytes: int) -> Iterator[tuple[str, bytes] | ScrapedDocument]:
    """URL and bytes of a file that is kept as it is, or of each message of an mbox; or why there are none.

    Raises:
        UserError: the file cannot be opened, or changes meanwhile.
    """
    url = file_url(path, root)
    if kind == "mbox":
        yield from read_mbox(path, url, max_bytes)
        return
    content = _whole(path, url, max_bytes)
    yield content if isinstance(content, ScrapedDocument) else (url, content)


def _whole(path: Path, url: str, max_bytes: int) -> bytes | ScrapedDocument:
    try:
        with FileStream(path) as stream:
            return stream.read_whole(max_bytes)
    except DamagedFile as damage:
        return unreadable_document(str(path), url, damage.reason, damage.detail)


def _text(path: Path, url: str, kind: Format, options: ReadOptions) -> ScrapedDocument:
    content = _whole(path, url, options.max_bytes)
    if isinstance(content, ScrapedDocument):
        return content
    decoded = decode_file(content, options.encoding)
    if decoded is None:
        tried = f"no {options.encoding}, or control characters" if options.encoding else "bytes of no text"
        return ScrapedDocument(str(path), url, content, repr(content[:2000]), reason="unknown_encoding", detail=tried)
    text, meta = decoded.text, dict(decoded.meta)
    if kind == "markdown" and (front := FRONT_MATTER.match(text)):  # what tools say about the text, not the text
        text, meta = text[front.end() :].lstrip("\r\n"), {**meta, "front_matter": front.group(1).strip()}
    if kind == "code" and (language := LANGUAGES.get(format_suffix(path))):
        meta["language"] = language
    if not text.strip():
        return ScrapedDocument(str(path), url, content, text, reason="empty", detail="no text in the file")
    return ScrapedDocument(str(path), url, content, text, meta, encoding=decoded.label)
