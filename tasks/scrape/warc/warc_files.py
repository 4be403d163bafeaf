"""WARC files that may be damaged: a gzip member a record (WARC 1.1, annex D), one member for all, or not compressed.

After a damaged stretch reading goes on at the next gzip member that holds a record. A record in a member of its own comes
out when gzip's checksum has vouched for it; for one of several in a member only its digest can. Memory is bounded by the largest
record allowed, whatever a file claims or holds.
"""

import zlib
from collections.abc import Iterator
from dataclasses import replace

from tasks.formats.compressed import FREE_BYTES, DamagedFile
from tasks.scrape.warc.stream_buffer import CHUNK_BYTES, ByteStream, StreamBuffer
from tasks.scrape.warc.warc_records import HEADER_BYTES, DamagedSpan, WarcRecord, split_records

MAGIC = b"\x1f\x8b\x08"
START_BYTES = 1 << 10
"""After so many something has come out of a member: names in its header, which zlib reads on and on, are shorter."""
MAX_AGAIN = 16
"""Times the bytes of a file that are read again in search of what is whole behind damage."""
MAX_MEMBER_BYTES = 1 << 36
"""What may come out of one gzip member: a crawl's whole file, but no endless stream of zeros."""


def read_records(stream: ByteStream, max_bytes: int) -> Iterator[WarcRecord | DamagedSpan]:
    """The records of a WARC file, in its order, blocks of at most `max_bytes`, and what was lost between them.

    Reasons: broken_record, truncated_record, and those of DamagedFile where the stream itself ends early.
    """
    buffer = StreamBuffer(stream)
    compressed = buffer.fill(2) and buffer.data.startswith(MAGIC[:2])
    yield from _gzip(buffer, max_bytes) if compressed else split_records(buffer, max_bytes, "")
    if buffer.damage:
        yield DamagedSpan(str(buffer.base + len(buffer.data)), buffer.damage.reason, buffer.damage.detail)


def _gzip(buffer: StreamBuffer, max_bytes: int) -> Iterator[WarcRecord | DamagedSpan]:
    lost: tuple[int, str] | None = None  # start of a stretch that could not be read, and why
    in_vain = 0  # bytes read of what turned out to be none
    while buffer.fill(1):
        start, problem, passed = buffer.base, _no_member(buffer), 1
        if not problem:
            inflated = _Inflated(buffer, 2 * (max_bytes + HEADER_BYTES))
            found: WarcRecord | DamagedSpan | None = None
            count = 0
            for following in split_records(StreamBuffer(inflated), max_bytes, str(start)):
                if lost:
                    yield _lost(*lost)
                    lost = None
                if found:
                    yield found
                found, count = following, count + 1
            problem = inflated.problem
            if count == 1 and isinstance(found, WarcRecord) and not (problem or found.cut or found.wrong_length):
                found = replace(found, member=inflated.member())
            if found:
                yield found
            if not problem and not count:
                problem = "its gzip member holds no WARC record"
            elif not problem:
                buffer.drop(inflated.at)
                continue
            in_vain += inflated.at + inflated.size
            if in_vain > max(FREE_BYTES, MAX_AGAIN * buffer.base):  # members made to lie within each other
                passed = max(1, inflated.at - len(MAGIC))
        lost = lost or (start, problem)
        buffer.drop(passed)
        if buffer.find(MAGIC, 0, None) < 0:
            buffer.drop(len(buffer.data))
    if lost:
        yield _lost(*lost)


def _no_member(buffer: StreamBuffer) -> str:
    """Why no gzip member begins at the start of the buffer; "" if one does."""
    if not (buffer.fill(len(MAGIC)) and buffer.data.startswith(MAGIC)):
        return "no gzip member"
    buffer.fill(START_BYTES)
    try:
        inflate = zlib.decompressobj(wbits=31)
        some = inflate.decompress(buffer.data[:START_BYTES], 1) or inflate.eof
    except zlib.error as error:
        return f"its gzip member is damaged ({error})"
    return "" if some or len(buffer.data) < START_BYTES else f"nothing in {START_BYTES} bytes of a gzip member"


def _lost(start: int, problem: str) -> DamagedSpan:
    return DamagedSpan(str(start), "truncated_record" if "ends within" in problem else "broken_record", problem)


class _Inflated:
    """What the gzip member at the start of a buffer holds.

    The buffer keeps the member until it was read, so that after a `problem` it can be searched for other members; of
    one larger than `keep_bytes` it keeps the end. `at`: how far into the buffer it was read; `size`: what came out.
    """

    def __init__(self, buffer: StreamBuffer, keep_bytes: int) -> None:
        self.problem, self.at = "", 0
        self._buffer, self._keep_bytes, self._start = buffer, keep_bytes, buffer.base
        self._inflate = zlib.decompressobj(wbits=31)
        self.size = 0

    def read(self, size: int) -> bytes:
        """As `ByteStream.read`; DamagedFile with the `problem`."""
        block = b""
        while not block and not self._inflate.eof:
            compressed = self._inflate.unconsumed_tail or self._more()
            try:
                block = self._inflate.decompress(compressed, 16 * size)
            except zlib.error as error:
                raise self._damaged(f"its gzip member is damaged ({error})") from None
            self.size += len(block)
            if self.size > MAX_MEMBER_BYTES:
                raise self._damaged(f"more than {MAX_MEMBER_BYTES} bytes come out of one gzip member")
            if self._inflate.eof:
                self.at -= len(self._inflate.unused_data)
        return block

    def member(self) -> bytes | None:
        """The member, if it was read to its end and the buffer still has the whole of it."""
        whole = self._inflate.eof and self._buffer.base == self._start
        return bytes(memoryview(self._buffer.data)[: self.at]) if whole else None

    def _more(self) -> bytes:
        if self.at > self._keep_bytes:
            self._buffer.drop(self.at - CHUNK_BYTES)
            self.at = CHUNK_BYTES
        if not self._buffer.fill(self.at + 1):
            raise self._damaged("the file ends within its gzip member")
        block = bytes(memoryview(self._buffer.data)[self.at : self.at + CHUNK_BYTES])
        self.at += len(block)
        return block

    def _damaged(self, problem: str) -> DamagedFile:
        self.problem = problem
        return DamagedFile("broken_record", problem)
