"""Bodies of HTTP responses: content encodings undone within bounds."""

import zlib

CHUNK_BYTES = 1 << 16
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
    for coding in reversed([name.strip().lower() for name in encodings.split(",")]):
        if coding in ("", "identity"):
            continue
        if coding in ("gzip", "x-gzip"):
            body = _inflate(body, coding, 31, max_bytes)
        elif coding == "deflate":
            # zlib's format by the standard; some servers send raw deflate.
            body = _inflate(body, coding, 15 if body[:1] and body[0] & 15 == 8 else -15, max_bytes)
        else:
            raise Undecodable(f"Content-Encoding {coding!r} was not asked for")
    return body


def _inflate(body: bytes, coding: str, wbits: int, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    rest = body
    while rest:
        inflate = zlib.decompressobj(wbits)
        try:
            while rest and not inflate.eof:
                part = inflate.decompress(rest, CHUNK_BYTES)
                rest = inflate.unconsumed_tail
                parts.append(part)
                size += len(part)
                if size > max_bytes:
                    raise TooLarge
        except zlib.error as error:
            raise Undecodable(f"broken {coding}: {error}") from None
        if not inflate.eof:
            raise Undecodable(f"truncated {coding}")
        # Gzip allows several members in a row; what else follows, browsers pass over.
        rest = inflate.unused_data if wbits == 31 and inflate.unused_data.startswith(GZIP) else b""
    return b"".join(parts)
