"""WARC records out of a stream of uncompressed bytes (WARC 1.1, ISO 28500), also where it is damaged.

The format marks a record's end twice: by Content-Length and by the blank lines before the next `WARC/`. Where the two
disagree, the second decides. After a damaged stretch reading goes on at the next record.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.http.response import HEAD_LINE_END
from tasks.scrape.warc.stream_buffer import Window

START = b"WARC/"
BREAK = b"\nWARC/1."
HEADER_END = re.compile(rb"\n(?:\r?\n|WARC/1\.)")
LONGEST_END = len(BREAK)
HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class Record:
    """A WARC record.

    Attributes:
        where: byte of the file at which it, or its gzip member, begins; `+` the byte within the member.
        headers: names in lower case; of repeated ones the first.
        block: the content block, at most as large as allowed; `cut`: it was larger.
        wrong_length: its Content-Length is missing or is not the length that it has.
        member: the gzip member, if it holds this record alone and nothing was wrong with it.
    """

    where: str
    headers: dict[str, str]
    block: bytes
    cut: bool = False
    wrong_length: bool = False
    member: bytes | None = None

    @property
    def kind(self) -> str:
        """WARC-Type in lower case."""
        return self.headers.get("warc-type", "").lower()


@dataclass(frozen=True)
class Lost:
    """A stretch of the file out of which no record came: where, a reason and a detail."""

    where: str
    reason: str
    detail: str


def split(text: Window, max_bytes: int, member: str) -> Iterator[Record | Lost]:
    """The records in a stream of uncompressed bytes. `member`: where it begins in the file, if it is a gzip member.

    A record comes out when it is known to end: at the next one, or at the stream's good end. What a damaged stream
    breaks off within does not, and its caller knows of it. Stretches without a record come out as one.
    """
    lost, alone = "", False  # where a stretch without records began; whether it may be the whole of a member
    searched = 0  # up to this byte of the stream no header ends
    while True:
        text.strip()
        if not text.fill(1):
            break
        where = f"{member}+{text.base}" if member and text.base else member or str(text.base)
        header, searched = _header(text, searched)
        if header is None:
            alone = bool(member) and not text.base
            lost = lost or where
            text.drop(1)
            if text.find(BREAK[1:], 0, None) < 0:
                break
            continue
        if lost and not text.damage:
            yield _no_record(lost)
        lost = ""
        headers = _headers(bytes(text.data[: header[0]]))
        text.drop(header[1])
        yield from _block(text, headers, max_bytes, where, bool(member))
    if lost and not (alone or text.damage):  # of a member that is no record at all its caller says so
        yield _no_record(lost)


def _no_record(where: str) -> Lost:
    return Lost(where, "broken_record", f"no WARC record at {where}")


def _header(text: Window, searched: int) -> tuple[tuple[int, int] | None, int]:
    """Where the header at the start ends and its block begins, None if there is none or another begins within it; and
    the byte of the stream up to which it is known that no header ends, as which it was `searched` before.
    """
    if not (text.fill(len(START)) and text.data.startswith(START)):
        return None, searched
    found = text.search(HEADER_END, max(0, searched - text.base), HEADER_BYTES, LONGEST_END)
    if found is None:
        return None, max(searched, text.base + min(len(text.data), HEADER_BYTES) - LONGEST_END)
    return (None if found.group().endswith(BREAK[1:]) else found.span()), searched


def _headers(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in HEAD_LINE_END.split(head.decode("utf-8", "replace"))[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    return headers


def _block(text: Window, headers: dict[str, str], max_bytes: int, where: str, member: bool) -> Iterator[Record | Lost]:
    stated = headers.get("content-length", "")
    length = int(stated) if stated.isdecimal() and len(stated) < 16 else None
    if length is not None and length <= max_bytes:
        text.fill(length + 16)
        after = bytes(text.data[length : length + 16]).lstrip(b"\r\n")
        at_end = text.ended and not after and len(text.data) >= length
        ended = after and text.data[length:].startswith(b"\r\n\r\n")  # what follows may be anything then
        if after.startswith(START) or ended or (at_end and not text.damage):
            yield Record(where, headers, bytes(memoryview(text.data)[:length]))
            text.drop(length)
            return
    # The length is not what it says, or more than allowed: the next record tells where this one ends.
    at = text.find(BREAK, 0, max_bytes + len(BREAK))
    if at >= 0:
        yield Record(where, headers, _trimmed(bytes(text.data[: at + 1])), wrong_length=True)
        text.drop(at + 1)
    elif not text.ended or len(text.data) > max_bytes:
        cut = Record(where, headers, bytes(text.data[:max_bytes]), cut=True, wrong_length=length is None)
        found = text.find(BREAK, 0, None)
        text.drop(1 if found >= 0 else len(text.data))
        if not text.damage:
            yield cut
    else:
        if not text.damage and (member or (length is not None and length < len(text.data))):
            yield Record(where, headers, _trimmed(bytes(text.data)), wrong_length=True)
        elif not text.damage:
            yield Lost(where, "truncated_record", f"the file ends within the record at {where}")
        text.drop(len(text.data))


def _trimmed(block: bytes) -> bytes:
    """A block without the two line breaks that end its record."""
    for _ in range(2):
        block = block.removesuffix(b"\n").removesuffix(b"\r")
    return block
