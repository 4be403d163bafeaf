"""WARC records out of a stream of uncompressed bytes (WARC 1.1, ISO 28500), also where it is damaged.

The format marks a record's end twice: by Content-Length and by the blank lines before the next `WARC/`. Where the two
disagree, the second decides. After a damaged stretch reading goes on at the next record.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.http.response import HEAD_LINE_END
from tasks.scrape.warc.stream_buffer import StreamBuffer

START = b"WARC/"
BREAK = b"\nWARC/1."
HEADER_END = re.compile(rb"\n(?:\r?\n|WARC/1\.)")
LONGEST_END = len(BREAK)
HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class WarcRecord:
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
class DamagedSpan:
    """A stretch of the file out of which no record came: where, a reason and a detail."""

    where: str
    reason: str
    detail: str


def split_records(buffer: StreamBuffer, max_bytes: int, member: str) -> Iterator[WarcRecord | DamagedSpan]:
    """The records in a stream of uncompressed bytes. `member`: where it begins in the file, if it is a gzip member.

    A record comes out when it is known to end: at the next one, or at the stream's good end. What a damaged stream
    breaks off within does not, and its caller knows of it. Stretches without a record come out as one.
    """
    lost, alone = "", False  # where a stretch without records began; whether it may be the whole of a member
    searched = 0  # up to this byte of the stream no header ends
    while True:
        buffer.strip()
        if not buffer.fill(1):
            break
        where = f"{member}+{buffer.base}" if member and buffer.base else member or str(buffer.base)
        header, searched = _header(buffer, searched)
        if header is None:
            alone = bool(member) and not buffer.base
            lost = lost or where
            buffer.drop(1)
            if buffer.find(BREAK[1:], 0, None) < 0:
                break
            continue
        if lost and not buffer.damage:
            yield _no_record(lost)
        lost = ""
        headers = _headers(bytes(buffer.data[: header[0]]))
        buffer.drop(header[1])
        yield from _block(buffer, headers, max_bytes, where, bool(member))
    if lost and not (alone or buffer.damage):  # of a member that is no record at all its caller says so
        yield _no_record(lost)


def _no_record(where: str) -> DamagedSpan:
    return DamagedSpan(where, "broken_record", f"no WARC record at {where}")


def _header(buffer: StreamBuffer, searched: int) -> tuple[tuple[int, int] | None, int]:
    """Where the header at the start ends and its block begins, None if there is none or another begins within it; and
    the byte of the stream up to which it is known that no header ends, as which it was `searched` before.
    """
    if not (buffer.fill(len(START)) and buffer.data.startswith(START)):
        return None, searched
    found = buffer.search(HEADER_END, max(0, searched - buffer.base), HEADER_BYTES, LONGEST_END)
    if found is None:
        return None, max(searched, buffer.base + min(len(buffer.data), HEADER_BYTES) - LONGEST_END)
    return (None if found.group().endswith(BREAK[1:]) else found.span()), searched


def _headers(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in HEAD_LINE_END.split(head.decode("utf-8", "replace"))[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    return headers


def _block(
    buffer: StreamBuffer, headers: dict[str, str], max_bytes: int, where: str, member: bool
) -> Iterator[WarcRecord | DamagedSpan]:
    stated = headers.get("content-length", "")
    length = int(stated) if stated.isdecimal() and len(stated) < 16 else None
    if length is not None and length <= max_bytes:
        buffer.fill(length + 16)
        after = bytes(buffer.data[length : length + 16]).lstrip(b"\r\n")
        at_end = buffer.ended and not after and len(buffer.data) >= length
        ended = after and buffer.data[length:].startswith(b"\r\n\r\n")  # what follows may be anything then
        if after.startswith(START) or ended or (at_end and not buffer.damage):
            yield WarcRecord(where, headers, bytes(memoryview(buffer.data)[:length]))
            buffer.drop(length)
            return
    # The length is not what it says, or more than allowed: the next record tells where this one ends.
    at = buffer.find(BREAK, 0, max_bytes + len(BREAK))
    if at >= 0:
        yield WarcRecord(where, headers, _trimmed(bytes(buffer.data[: at + 1])), wrong_length=True)
        buffer.drop(at + 1)
    elif not buffer.ended or len(buffer.data) > max_bytes:
        cut = WarcRecord(where, headers, bytes(buffer.data[:max_bytes]), cut=True, wrong_length=length is None)
        found = buffer.find(BREAK, 0, None)
        buffer.drop(1 if found >= 0 else len(buffer.data))
        if not buffer.damage:
            yield cut
    else:
        if not buffer.damage and (member or (length is not None and length < len(buffer.data))):
            yield WarcRecord(where, headers, _trimmed(bytes(buffer.data)), wrong_length=True)
        elif not buffer.damage:
            yield DamagedSpan(where, "truncated_record", f"the file ends within the record at {where}")
        buffer.drop(len(buffer.data))


def _trimmed(block: bytes) -> bytes:
    """A block without the two line breaks that end its record."""
    for _ in range(2):
        block = block.removesuffix(b"\n").removesuffix(b"\r")
    return block
