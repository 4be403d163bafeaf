"""JSON Lines, and lines of text: files of rows. Every line comes out, as a document or with the reason why it is none."""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.formats.compressed import DamagedFile, FileStream, ReadableStream, split_lines
from tasks.formats.encodings.decode import DecodedText, bom_encoding
from tasks.formats.encodings.encoding_detection import detect_utf16_32
from tasks.formats.rows.json_rows import RowDecoder, parse_json_values
from tasks.scrape.files.row_documents import (
    Columns,
    ScrapedDocument,
    WrongColumns,
    row_to_document,
    unreadable_document,
)


class Utf8Stream:
    """A stream in an encoding whose line feeds are more than one byte (UTF-16, UTF-32), as UTF-8."""

    def __init__(self, stream: FileStream, first: bytes, encoding: str) -> None:
        self.path, self._stream, self._first, self._encoding = stream.path, stream, first, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def read(self) -> bytes:
        """As `FileStream.read`; what is not of the encoding becomes U+FFFD."""
        while block := self._first or self._stream.read():
            self._first = b""
            if text := self._decoder.decode(block):
                return text.encode()
        return b""


class PeekedStream:
    """A stream whose first block was looked at and put back."""

    def __init__(self, stream: FileStream, first: bytes) -> None:
        self.path, self._stream, self._first = stream.path, stream, first

    def read(self) -> bytes:
        """As `FileStream.read`."""
        block, self._first = self._first, b""
        return block or self._stream.read()


def read_jsonl(
    path: Path, url: str, columns: Columns, declared: str | None, max_bytes: int
) -> Iterator[ScrapedDocument]:
    """The lines of a JSON Lines file. UTF-8 (RFC 8259) unless a byte order mark or `declared` says otherwise.

    Raises:
        UserError: the file cannot be opened, or changes meanwhile.
    """
    for line in text_lines(path, url, declared, max_bytes):
        if isinstance(line, ScrapedDocument):
            yield line
        else:
            yield from _row(line, columns)


def read_text_lines(
    path: Path, url: str, columns: Columns, declared: str | None, max_bytes: int
) -> Iterator[ScrapedDocument]:
    """The lines of a text file, each a row with the one column `text`; raises as `read_jsonl`.

    Raises:
        WrongColumns: it is not the column that is wanted.
    """
    if columns.text != "text":
        raise WrongColumns(f"{path}: has no column {columns.text!r}, only text. Set text_column.")
    for line in text_lines(path, url, declared, max_bytes):
        if isinstance(line, ScrapedDocument):
            yield line
        else:
            decoded = line.decoder.decode(line.raw)
            row = {"text": decoded.text.lstrip("\ufeff")}
            yield row_to_document(row, line.where, line.url, line.raw, columns, line.reported(decoded))


@dataclass(frozen=True)
class Line:
    """A line, and how its bytes are encoded."""

    raw: bytes
    where: str
    url: str
    decoder: RowDecoder
    by: DecodedText

    def reported(self, decoded: DecodedText) -> DecodedText:
        """How it was decoded, as the document says."""
        return decoded if decoded.encoding != "utf-8" or decoded.strays else self.by


def text_lines(path: Path, url: str, declared: str | None, max_bytes: int) -> Iterator[Line | ScrapedDocument]:
    """The lines that are not blank, or why one cannot be read; see `read_jsonl`."""
    with FileStream(path) as stream:
        try:
            first = stream.read()
        except DamagedFile as damage:
            yield unreadable_document(str(path), url, damage.reason, damage.detail)
            return
        by, source = _encoding(stream, first, declared)
        decoder = RowDecoder("utf-8" if isinstance(source, Utf8Stream) else by.encoding, by.by)
        for number, raw in split_lines(source, max_bytes):
            where, row_url = f"{path}, line {number}", f"{url}#L{number}"
            if isinstance(raw, DamagedFile):
                yield unreadable_document(where, row_url, raw.reason, raw.detail)
            else:
                yield Line(raw, where, row_url, decoder, by)


def _encoding(stream: FileStream, first: bytes, declared: str | None) -> tuple[DecodedText, ReadableStream]:
    """How the lines are encoded, and the stream to read them from; `first` is its first block."""
    whole = first[: len(first) // 4 * 4]
    if marked := bom_encoding(first):
        by = DecodedText("", marked, "mark")
    elif declared:
        by = DecodedText("", declared.lower(), "declared")
    elif b"\0" in first[:4] and (found := detect_utf16_32(whole)):
        by = DecodedText("", found, "content")
    else:
        by = DecodedText("", "utf-8", "valid")
    if by.encoding.replace("_", "-").startswith(("utf-16", "utf-32")):
        return by, Utf8Stream(stream, first, by.encoding)
    return by, PeekedStream(stream, first)


def _row(line: Line, columns: Columns) -> Iterator[ScrapedDocument]:
    """The rows of a line: one, where files were joined without a line end more."""
    raw, where, url = line.raw, line.where, line.url
    decoded = line.decoder.decode(raw)
    try:
        rows = parse_json_values(decoded.text)
    except (ValueError, RecursionError) as error:
        shown = raw.decode("utf-8", "backslashreplace")
        yield ScrapedDocument(where, url, raw, shown, reason="broken_json", detail=f"{where}: {error}"[:500])
        return
    for place, row in enumerate(rows):
        content = raw if len(rows) == 1 else json.dumps(row, ensure_ascii=False).encode()
        row_url = f"{url}.{place + 1}" if place else url
        if isinstance(row, dict):
            yield row_to_document(row, where, row_url, content, columns, line.reported(decoded))
        else:
            detail = f"{where}: {type(row).__name__}, expected an object"
            yield ScrapedDocument(where, row_url, content, json.dumps(row), reason="broken_json", detail=detail)
