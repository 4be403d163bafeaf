"""Local files: found by globs and folders, read into documents. What cannot be used comes out as well, with the reason."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from tasks.core.errors import UserError
from tasks.text.compressed import CODECS, Damaged, Stream, plain_suffix
from tasks.text.encoding import decode_file
from tasks.text.row_files import read_jsonl, read_parquet
from tasks.text.row_items import Columns, Item, lost

Format = Literal["jsonl", "parquet", "text", "markdown", "html"]
SUFFIXES: dict[str, Format] = {
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".parquet": "parquet",
    **dict.fromkeys((".txt", ".text", ".rst"), "text"),
    **dict.fromkeys((".md", ".markdown"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
}
FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(.{0,20000}?)^---[ \t]*\r?(?:\n|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Reading:
    """How files are read: their columns, the declared encoding (None: detected), bytes of a document or line at most."""

    columns: Columns
    encoding: str | None
    max_bytes: int


def format_of(path: Path, wanted: str) -> Format | None:
    """The format of a file: `wanted`, or by the suffix if that is `auto`; None where that is unknown."""
    return SUFFIXES.get(plain_suffix(path)) if wanted == "auto" else wanted  # type: ignore[return-value]


def find(patterns: Sequence[str], root: Path, wanted: str, where: str) -> tuple[list[tuple[Path, Format]], list[Path]]:
    """The files that the globs match or that lie under the folders named, sorted, each once, with their format.

    Also returns the files of unknown suffix in named
    folders (a website's pictures, say), which are not read.

    Raises:
        UserError: a pattern matches no file, or names a file whose suffix is unknown.
    """
    found: dict[Path, Format] = {}
    others: set[Path] = set()
    for pattern in patterns:
        folder = (root / pattern).is_dir()
        if folder:
            paths = [Path(at) / name for at, _, names in os.walk(root / pattern) for name in names]
        else:
            paths = [Path(match) for match in glob.glob(str(root / pattern), recursive=True)]  # noqa: PTH207  absolute patterns too
        paths = [path for path in paths if path.is_file()]
        if not paths:
            raise UserError(f"{where}: paths: {pattern!r} matches no file under {root}")
        for path in paths:
            kind = format_of(path, wanted)
            if kind is not None:
                found[path] = kind
            elif folder:
                others.add(path)
            else:
                raise UserError(
                    f"{where}: {path}: the suffix {path.suffix!r} does not tell the format. Set format, or name the "
                    f"files {', '.join(sorted(SUFFIXES))}, {', '.join(CODECS)} behind it if they are compressed."
                )
    return sorted(found.items()), sorted(others - set(found))


def file_url(path: Path, root: Path) -> str:
    """The `file:` URL: relative to the project where the file lies in it, so that it is the same in every checkout."""
    absolute = path.absolute()
    if absolute.is_relative_to(root.absolute()):
        return "file:" + quote(absolute.relative_to(root.absolute()).as_posix())
    return absolute.as_uri()


def read(path: Path, kind: Format, root: Path, how: Reading) -> Iterator[Item]:
    """The items of one file, in its order.

    Raises:
        UserError: the file cannot be opened, changes meanwhile, or is Parquet without a footer or the columns.
    """
    url = file_url(path, root)
    if kind == "jsonl":
        yield from read_jsonl(path, url, how.columns, how.encoding, how.max_bytes)
    elif kind == "parquet":
        yield from read_parquet(path, url, how.columns)
    else:
        yield _text(path, url, kind, how)


def read_page(path: Path, root: Path, max_bytes: int) -> tuple[str, bytes] | Item:
    """URL and bytes of an HTML file, or why there are none.

    Raises:
        UserError: the file cannot be opened, or changes meanwhile.
    """
    url = file_url(path, root)
    content = _whole(path, url, max_bytes)
    return content if isinstance(content, Item) else (url, content)


def _whole(path: Path, url: str, max_bytes: int) -> bytes | Item:
    try:
        with Stream(path) as stream:
            return stream.read_whole(max_bytes)
    except Damaged as damage:
        return lost(str(path), url, damage.reason, damage.detail)


def _text(path: Path, url: str, kind: Format, how: Reading) -> Item:
    content = _whole(path, url, how.max_bytes)
    if isinstance(content, Item):
        return content
    decoded = decode_file(content, how.encoding)
    if decoded is None:
        tried = f"no {how.encoding}, or control characters" if how.encoding else "bytes of no text"
        return Item(str(path), url, content, repr(content[:2000]), reason="unknown_encoding", detail=tried)
    text, meta = decoded.text, dict(decoded.note)
    if kind == "markdown" and (front := FRONT_MATTER.match(text)):  # what tools say about the text, not the text
        text, meta = text[front.end() :].lstrip("\r\n"), {**meta, "front_matter": front.group(1).strip()}
    if not text.strip():
        return Item(str(path), url, content, text, reason="empty", detail="no text in the file")
    return Item(str(path), url, content, text, meta, encoding=decoded.label)
