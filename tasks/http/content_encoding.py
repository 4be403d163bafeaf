"""Bodies of HTTP responses: content encodings undone within bounds."""

import zlib
from collections.abc import Iterator

CHUNK_BYTES = 1 << 16
FIRST_BYTES = 1 << 9
MAX_CODINGS = 5
"""As curl: what undoes itself to itself could otherwise be undone as often as a header names it."""
GZIP = b"\x1f\x8b"
ACCEPT_ENCODING = "gzip, deflate"


class TooLarge(Exception):
    """The decoded body is larger than allowed."""


class Undecodable(Exception):
    """The body is not what its Content-Encoding says."""


def decode_content(body: bytes, encodings: str, max_bytes: int) -> bytes:
    """Undo the codings that a Content-Encoding header lists (RFC 9110, 8.4), never holding more than `max_bytes` and a chunk.

    Raises:
        TooLarge: more than `max_bytes` come out.
        Undecodable: broken or truncated data, or a coding that was not asked for.
    """
    codings = [coding for name in encodings.split(",") if (coding := name.strip().lower()) not in ("", "identity")]
    if len(codings) > MAX_CODINGS:
        raise Undecodable(f"more than {MAX_CODINGS} codings")
    for coding in reversed(codings):
        if coding in ("gzip", "x-gzip"):
            body = _inflate(body, coding, 31, max_bytes)
        elif coding == "deflate":
            # zlib's format by the standard; some servers send raw deflate.
            body = _inflate(body, coding, 15 if body[:1] and body[0] & 15 == 8 else -15, max_bytes)
        else:
            raise Undecodable(f"Content-Encoding {coding!r} was not asked for")
    return body


class CompressedStream:
    """A compressed stream that begins at byte `start` of `body`, inflated in parts as it is iterated over.

    `end`: where it ends; None if it does not, or was not read to its end. `wbits`: as zlib's. Input is handed on in
    pieces, small ones first: zlib copies what stands behind a stream, and many short ones may follow each other.
    """

    def __init__(self, body: bytes | memoryview, start: int, wbits: int) -> None:
        self.end: int | None = None
        self._body, self._at, self._inflate = memoryview(body), start, zlib.decompressobj(wbits)

    def __iter__(self) -> Iterator[bytes]:
        """Raises zlib.error where it is broken."""
        inflate, size = self._inflate, FIRST_BYTES
        while not inflate.eof:
            block: bytes | memoryview = inflate.unconsumed_tail
            if not block:
                block = self._body[self._at : self._at + size]
                self._at, size = self._at + len(block), min(2 * size, CHUNK_BYTES)
            part = inflate.decompress(block, CHUNK_BYTES)
            if part:
                yield part
            elif not block:
                return
        self.end = self._at - len(inflate.unused_data)


def _inflate(body: bytes, coding: str, wbits: int, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size, at = 0, 0
    while at < len(body):
        member = CompressedStream(body, at, wbits)
        try:
            for part in member:
                parts.append(part)
                size += len(part)
                if size > max_bytes:
                    raise TooLarge
        except zlib.error as error:
            raise Undecodable(f"broken {coding}: {error}") from None
        if member.end is None:
            raise Undecodable(f"truncated {coding}")
        # Gzip allows several members in a row; what else follows, browsers pass over.
        at = member.end if wbits == 31 and body.startswith(GZIP, member.end) else len(body)
    return b"".join(parts)
