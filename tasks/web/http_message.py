"""HTTP responses as archives hold them: head and body apart, transfer and content codings undone, also where they lie.

Archives differ: some keep the body as it was sent, some undo the codings and keep the headers that tell of them, some
cut it off. What can be read is read; `repairs` names what was not as declared.
"""

import io
import re
import zlib
from dataclasses import dataclass
from typing import Any

STATUS = re.compile(rb"HTTP/(\d(?:\.\d)?) +(\d{3})(?: |\r|\n|$)")
HEAD_END = re.compile(rb"\r?\n\r?\n")
CHUNK_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
BLOCK_BYTES = 1 << 16


class Unusable(Exception):
    """There is no body to be had: `reason` and `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Message:
    """A response. `headers` as sent, in order; `body` as sent, codings included."""

    protocol: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header, several joined by commas (RFC 9110, 5.3); empty if it is not there."""
        return ", ".join(value for key, value in self.headers if key.lower() == name)


def parse(block: bytes) -> Message:
    """A response out of the block of a WARC record.

    Raises:
        Unusable: broken_http: it does not begin as a response does.
    """
    start = STATUS.match(block)
    if not start:
        raise Unusable("broken_http", f"no HTTP response: {block[:60]!r}")
    end = HEAD_END.search(block)
    head, body = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    headers: list[tuple[str, str]] = []
    for line in head.decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if line[:1] in " \t" and headers:  # folded (obsolete since RFC 7230)
            headers[-1] = (headers[-1][0], f"{headers[-1][1]} {line.strip()}")
        elif colon and name.strip():
            headers.append((name.strip(), value.strip()))
    return Message(f"HTTP/{start.group(1).decode()}", int(start.group(2)), headers, body)


def decoded_body(message: Message, max_bytes: int) -> tuple[bytes, list[str]]:
    """The body with its codings undone, and what was not as declared: not_chunked, not_compressed, body_incomplete.

    Raises:
        Unusable: too_large: more than `max_bytes`; undecodable: nothing can be read, or the coding is unknown.
    """
    body, repairs = message.body, []
    if "chunked" in message.header("transfer-encoding").lower():
        body, repair = _unchunked(body)
        repairs += [repair] if repair else []
    for coding in reversed([name.strip().lower() for name in message.header("content-encoding").split(",")]):
        if coding in ("", "identity", "none"):
            continue
        body, repair = _decompressed(body, coding, max_bytes)
        repairs += [repair] if repair else []
    if len(body) > max_bytes:
        raise Unusable("too_large", f"more than {max_bytes} bytes")
    return body, repairs


def _unchunked(body: bytes) -> tuple[bytes, str]:
    """RFC 9112, 7.1; trailers are left out."""
    parts: list[bytes] = []
    at = 0
    while size := CHUNK_SIZE.match(body, at):
        length = int(size.group(1), 16)
        if not length:
            return b"".join(parts), ""
        part = body[size.end() : size.end() + length]
        parts.append(part)
        at = size.end() + length
        if len(part) < length:
            break
        at += 2 if body[at : at + 2] == b"\r\n" else body[at : at + 1] == b"\n"
    return (b"".join(parts), "body_incomplete") if parts else (body, "not_chunked" if body else "")


def _decompressed(body: bytes, coding: str, max_bytes: int) -> tuple[bytes, str]:
    if not body:
        return body, ""
    if coding in ("gzip", "x-gzip"):
        if not body.startswith(b"\x1f\x8b"):
            return _as_it_is(body, coding)
        return _inflated(body, 31, max_bytes)
    if coding == "deflate":  # zlib's format by the standard; some servers send raw deflate
        for wbits in (15, -15):
            try:
                found, repair = _inflated(body, wbits, max_bytes)
            except Unusable as problem:
                if problem.reason == "too_large":
                    raise
                continue
            if wbits == 15 or not repair:  # as raw deflate almost anything begins well
                return found, repair
        return _as_it_is(body, coding)
    if coding in ("br", "zstd"):
        return _by_arrow(body, {"br": "brotli"}.get(coding, coding), max_bytes)
    raise Unusable("undecodable", f"Content-Encoding {coding!r} is unknown")


def _as_it_is(body: bytes, coding: str) -> tuple[bytes, str]:
    if body.lstrip()[:1] == b"<" or body.isascii():
        return body, "not_compressed"
    raise Unusable("undecodable", f"no {coding}")


def _inflated(body: bytes, wbits: int, max_bytes: int) -> tuple[bytes, str]:
    parts: list[bytes] = []
    size, rest, complete = 0, body, False
    while rest:
        inflate = zlib.decompressobj(wbits)
        try:
            while rest and not inflate.eof:
                part = inflate.decompress(rest, BLOCK_BYTES)
                rest = inflate.unconsumed_tail
                parts.append(part)
                size += len(part)
                if size > max_bytes:
                    raise Unusable("too_large", f"more than {max_bytes} bytes")
        except zlib.error as error:
            if complete:  # what follows a whole body is none of it
                break
            if not size:
                raise Unusable("undecodable", str(error)) from None
        complete = complete or inflate.eof
        if not inflate.eof:
            return b"".join(parts), "body_incomplete"
        rest = inflate.unused_data if wbits == 31 else b""  # gzip allows several members in a row
    return b"".join(parts), ""


def _by_arrow(body: bytes, codec: str, max_bytes: int) -> tuple[bytes, str]:
    import pyarrow as pa

    parts: list[bytes] = []
    size, repair = 0, ""
    stream: Any = pa.input_stream(io.BytesIO(body), compression=codec)
    try:
        while part := stream.read(BLOCK_BYTES):
            parts.append(part)
            size += len(part)
            if size > max_bytes:
                raise Unusable("too_large", f"more than {max_bytes} bytes")
    except OSError:
        if not parts:
            return _as_it_is(body, codec)
        repair = "body_incomplete"
    return b"".join(parts), repair
