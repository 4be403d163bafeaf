"""CSV and TSV: files of rows under a header (RFC 4180). Every record comes out, as a document or with the reason why not."""

import codecs
import csv
import io
import json
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.formats.compressed import DamagedFile, FileStream
from tasks.formats.encodings.decode import DecodedText, bom_encoding, decode_file
from tasks.scrape.files.row_documents import Columns, ScrapedDocument, row_to_document, unreadable_document

DELIMITERS = (",", ";", "\t", "|")
SAMPLE_BYTES = 1 << 15
SAMPLE_LINES = 1000
SAMPLE_CHARACTERS = 1 << 20
CHUNK_CHARACTERS = 1 << 16
LINE_BYTES = 50
"""What Python keeps beside each line of a record."""
MAX_AGAIN, FREE_CHARACTERS = 16, 1 << 20
"""Times what was read that may be read again behind quotes that stand wrong, and characters of it in any case."""
SEPARATOR_HINT = re.compile(r"sep=(.)\s*")
"""Excel's first line that names the delimiter."""


@dataclass(frozen=True)
class Dialect:
    """The delimiter, and whether fields are quoted: then they may hold line ends and delimiters."""

    delimiter: str
    quoted: bool


@dataclass(frozen=True)
class CsvRecord:
    """Fields, or with a `problem` the line that gives none. `number`: of its first line, from 1."""

    number: int
    lines: list[str]
    fields: list[str]
    problem: str = ""
    reason: str = "broken_row"


def read_csv(
    path: Path, url: str, columns: Columns, declared: str | None, max_bytes: int, tabs: bool
) -> Iterator[ScrapedDocument]:
    """The records of a file: the first names the columns, the delimiter is the one that makes a wanted column of it.

    `tabs`: only a tab delimits, and fields are taken as quoted only where lines have other numbers of tabs than the
    header. The encoding: by mark, as `declared`, UTF-8 where all of it is, else as what it looks like.

    Raises:
        WrongColumns: none has the name of `columns`.
        UserError: the file cannot be opened, or changes meanwhile.
    """
    try:
        decoded = _encoding(path, declared)
        if decoded is None:
            yield unreadable_document(str(path), url, "unknown_encoding", f"{path}: bytes of no text")
            return
        with FileStream(path) as stream:
            lines = _Lines(stream, decoded.encoding, max_bytes)
            if not lines.peek(1):
                yield unreadable_document(str(path), url, "empty", f"{path}: nothing in the file")
                return
            if hint := SEPARATOR_HINT.fullmatch(lines.peek(1)[0]):
                next(lines)
            head, dialect = _header(path, lines, columns, ("\t",) if tabs else hint.groups() if hint else DELIMITERS)
            for record in _records(lines, dialect):
                yield _item(record, head, path, url, columns, decoded)
    except DamagedFile as damage:
        yield unreadable_document(str(path), f"{url}#end", damage.reason, damage.detail)


def _encoding(path: Path, declared: str | None) -> DecodedText | None:
    """How the file is to be decoded; looks at all of it, if need be."""
    decoder, before, at = codecs.getincrementaldecoder("utf-8")(), b"", 0
    with FileStream(path) as stream:
        while block := stream.read(1 << 16):
            if not at and (marked := bom_encoding(block)):
                return DecodedText("", marked, "mark")
            if declared:
                return DecodedText("", declared, "declared")
            bad = 0 if not at and b"\0" in block else _first_error(decoder, block)  # UTF-16 shows at the start
            if bad is not None:
                start = max(0, len(before) + bad - SAMPLE_BYTES // 2)
                sample = (before + block)[start:][:SAMPLE_BYTES]
                looks = decode_file(sample[sample.find(b"\n") + 1 if start else 0 :])
                return DecodedText("", looks.encoding, looks.by) if looks else None
            before, at = block[-SAMPLE_BYTES:], at + len(block)
    return DecodedText("", "utf-8", "valid")


def _first_error(decoder: codecs.IncrementalDecoder, block: bytes) -> int | None:
    """Where the block, going on from those before, is not of the decoder's encoding."""
    try:
        decoder.decode(block)
    except UnicodeDecodeError as error:
        return error.start
    return None


class _Bytes(io.RawIOBase):
    """A `FileStream` as Python's files are, for its text layer."""

    def __init__(self, stream: FileStream) -> None:
        self._stream, self._left = stream, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._left or self._stream.read()
        part, self._left = block[: len(buffer)], block[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


class _TooLong(str):
    """Stands for a line that is longer than allowed."""

    def __new__(cls) -> "_TooLong":
        return super().__new__(cls, "\n")


class _Lines(Iterator[str]):
    """Lines with their ends, a `_TooLong` for each that is longer than allowed.

    Some can be looked at before, or put back. `number`: of the line that came last.
    """

    def __init__(self, stream: FileStream, encoding: str, max_bytes: int) -> None:
        name = "utf-8-sig" if encoding == "utf-8" else encoding
        self.path, self.number, self.max_bytes = stream.path, 0, max_bytes
        self._text = io.TextIOWrapper(io.BufferedReader(_Bytes(stream)), name, errors="replace", newline="")
        self._ahead: deque[str] = deque()

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        return line

    def peek(self, count: int) -> list[str]:
        """The next lines, as many as there are, but no more than SAMPLE_CHARACTERS and a line of them."""
        size = sum(map(len, self._ahead)) if count > 1 else 0
        while len(self._ahead) < count and size < SAMPLE_CHARACTERS and (line := self._read()):
            self._ahead.append(line)
            size += len(line)
        return [line for _, line in zip(range(count), self._ahead, strict=False)]

    def put_back(self, lines: list[str]) -> None:
        """Let these lines come again."""
        self._ahead.extendleft(reversed(lines))
        self.number -= len(lines)

    def _read(self) -> str:
        line = self._text.readline(self.max_bytes)
        if len(line) < self.max_bytes or line.endswith("\n"):
            return line
        while (more := self._text.readline(CHUNK_CHARACTERS)) and not more.endswith("\n"):
            pass
        return _TooLong()


def _header(path: Path, lines: _Lines, columns: Columns, delimiters: tuple[str, ...]) -> tuple[list[str], Dialect]:
    best = (0, [""], Dialect(",", True))
    for delimiter in delimiters:
        dialect = Dialect(delimiter, delimiter != "\t" or not _even(lines.peek(SAMPLE_LINES)))
        if (record := next(_records(lines, dialect), None)) is None:
            break
        names = [name.strip() for name in record.fields]
        if columns.present_in(names):
            columns.require(names, path)
            return names, dialect
        lines.put_back(record.lines)
        best = max(best, (len(names), names, dialect), key=lambda found: found[0])
    raise columns.missing_error(best[1], path)


def _even(lines: list[str]) -> bool:
    return len({line.count("\t") for line in lines if line.strip()}) <= 1


def _records(lines: _Lines, dialect: Dialect) -> Iterator[CsvRecord]:
    """Records to the end; where a quote does not close or stands wrong, the line that it is in, and on from the next.

    Where that has been done in vain again and again, all that such a quote takes in is one record.
    """
    csv.field_size_limit(lines.max_bytes)
    options = {"quoting": csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE, "strict": True}
    passed = again = 0
    while lines.peek(1):
        start, taken = lines.number + 1, list[str]()
        try:
            fed = _fed(lines, taken)
            fields = next(csv.reader(fed, delimiter=dialect.delimiter, **options))  # type: ignore[arg-type]
        except (csv.Error, StopIteration) as error:
            broken = 1
            again += sum(map(len, taken[1:]))
            if again > max(FREE_CHARACTERS, MAX_AGAIN * passed):
                broken = len(taken)
            lines.put_back(taken[broken:])
            taken, problem = taken[:broken], str(error) or "unexpected end of data"
            reason = "too_large" if isinstance(taken[0], _TooLong) else "broken_row"
            yield CsvRecord(start, taken, [], problem, reason)
        else:
            if fields and not dialect.quoted:
                fields = [_unquoted(field) for field in fields]
            if fields:
                yield CsvRecord(start, taken, fields)
        passed += sum(map(len, taken))


def _fed(lines: _Lines, taken: list[str]) -> Iterator[str]:
    """The lines, kept in `taken`. csv.Error where one, or all of a record, is larger than allowed."""
    size = 0
    for line in lines:
        if taken and isinstance(line, _TooLong):
            lines.put_back([line])
        else:
            taken.append(line)
        size += len(line) + LINE_BYTES
        if isinstance(line, _TooLong) or (len(taken) > 1 and size > lines.max_bytes):
            raise csv.Error(f"more than {lines.max_bytes} bytes")
        yield line


def _unquoted(field: str) -> str:
    """A field that stands in quotes, without them."""
    inside = field[1:-1].replace('""', "")
    wrapped = len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in inside
    return field[1:-1].replace('""', '"') if wrapped else field


def _item(
    record: CsvRecord, head: list[str], path: Path, url: str, columns: Columns, decoded: DecodedText
) -> ScrapedDocument:
    where, row_url = f"{path}, line {record.number}", f"{url}#L{record.number}"
    shown = "".join(record.lines)
    raw = shown.encode()
    problem, fields = record.problem, record.fields
    if len(fields) > len(head) and not any(fields[len(head) :]):  # delimiters at the end of the line
        fields = fields[: len(head)]
    if not problem and len(fields) != len(head):
        problem = f"{len(fields)} fields, the header has {len(head)}"
    if problem:
        return ScrapedDocument(where, row_url, raw, shown, reason=record.reason, detail=f"{where}: {problem}")
    row: dict[str, object] = {name: value for name, value in zip(head, fields, strict=True) if value}
    if isinstance(said := row.get(columns.messages), str):
        with suppress(ValueError):  # the reason is told where messages are read
            row[columns.messages] = json.loads(said)
    return row_to_document(row, where, row_url, raw, columns, decoded)
