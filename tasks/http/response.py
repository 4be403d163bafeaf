"""HTTP responses as archives hold them: head and body apart, transfer and content codings undone, also where they lie.

Archives differ: some keep the body as it was sent, some undo the codings and keep the headers that tell of them, some
cut it off. What can be read is read; `repairs` names what was not as declared.
"""

import codecs
import io
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tasks.formats.encodings.decode import decode_file
from tasks.formats.encodings.encoding_detection import control_share
from tasks.http.content_encoding import MAX_CODINGS, CompressedStream

STATUS = re.compile(rb"HTTP/(\d(?:\.\d)?) +(\d{3})(?: |\r|\n|$)")
HEAD_END = re.compile(rb"\r?\n\r?\n")
HEAD_LINE_END = re.compile(r"\r\n?|\n")
"""Not as `str.splitlines`, which ends a line at 0x85 too: a byte of the UTF-8 of letters."""
CHUNK_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
GZIP = b"\x1f\x8b"
LINE_END = re.compile(rb"\r?\n")
BLOCK_BYTES = 1 << 16
HEAD_BYTES = 1 << 16
"""Of a response's status line and headers, at most: browsers and servers take no more than a few times that."""
SAMPLE_BYTES = 1 << 12
LEAST_CHUNKED_BYTES = 16
"""In chunks that end as they should: fewer could be numbers that stand on lines of their own."""


class UnusableResponse(Exception):
    """There is no body to be had: `reason` and `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class HttpResponse:
    """A response. `headers` as sent, in order; `body` as sent, codings included."""

    protocol: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header, several joined by commas (RFC 9110, 5.3); empty if it is not there."""
        return ", ".join(value for key, value in self.headers if key.lower() == name)


def charset_of(content_type: str) -> str:
    """The charset that a Content-Type header names; empty if it names none."""
    for option in content_type.split(";")[1:]:
        name, _, value = option.partition("=")
        if name.strip().lower() == "charset":
            return value.strip(" \t\"'")
    return ""


def parse_response(block: bytes) -> HttpResponse:
    """A response out of the block of a WARC record.

    Raises:
        UnusableResponse: broken_http: it does not begin as a response does.
    """
    start = STATUS.match(block)
    if not start:
        raise UnusableResponse("broken_http", f"no HTTP response: {block[:60]!r}")
    end = HEAD_END.search(block)
    head, body = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    if len(head) > HEAD_BYTES:
        raise UnusableResponse("broken_http", f"a head of more than {HEAD_BYTES} bytes")
    headers: list[tuple[str, list[str]]] = []
    for line in HEAD_LINE_END.split(head.decode("latin-1"))[1:]:
        name, colon, value = line.partition(":")
        if line[:1] in " \t" and headers:  # folded (obsolete since RFC 7230)
            headers[-1][1].append(line.strip())
        elif colon and name.strip():
            headers.append((name.strip(), [value.strip()]))
    told = [(name, " ".join(lines)) for name, lines in headers]
    return HttpResponse(f"HTTP/{start.group(1).decode()}", int(start.group(2)), told, body)


def decode_body(response: HttpResponse, max_bytes: int) -> tuple[bytes, list[str]]:
    """The body with its codings undone, and what was not as declared: not_chunked, not_compressed, body_incomplete.

    Raises:
        UnusableResponse: too_large: more than `max_bytes`; undecodable: nothing can be read, or the coding is unknown.
    """
    body, repairs = response.body, []
    if "chunked" in response.header("transfer-encoding").lower():
        body, repair = _unchunked(body)
        repairs += [repair] if repair else []
    named = [name.strip().lower() for name in response.header("content-encoding").split(",")]
    codings = [coding for coding in named if coding not in ("", "identity", "none")]
    if len(codings) > MAX_CODINGS:
        raise UnusableResponse("undecodable", f"more than {MAX_CODINGS} codings")
    for coding in reversed(codings):
        body, repair = _decompressed(body, coding, max_bytes)
        repairs += [repair] if repair else []
    if len(body) > max_bytes:
        raise UnusableResponse("too_large", f"more than {max_bytes} bytes")
    return body, repairs


def _unchunked(body: bytes) -> tuple[bytes, str]:
    """RFC 9112, 7.1; trailers are left out. A text whose first line could be a chunk's size stays as it is."""
    parts: list[bytes] = []
    at = ended = 0  # bytes in chunks that end as they should
    while size := CHUNK_SIZE.match(body, at):
        length = int(size.group(1), 16)
        if not length:
            data, rest = b"".join(parts), body[size.end() :].strip()
            return (data, "") if len(rest) <= len(data) else (body, "not_chunked")
        part = body[size.end() : size.end() + length]
        parts.append(part)
        at = size.end() + length
        line_end = LINE_END.match(body, at)
        if not line_end:
            break
        ended += length
        at = line_end.end()
    first = CHUNK_SIZE.match(body)
    if first and (ended >= LEAST_CHUNKED_BYTES or not _begins_as_text(body[first.end() :])):
        return b"".join(parts), "body_incomplete"
    return body, "not_chunked" if body else ""


def _begins_as_text(body: bytes) -> bool:
    """Whether a body may begin like this whose first line was no markup."""
    return not _is_markup(body) and looks_like_text(body)


def _is_markup(body: bytes) -> bool:
    return body.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"<"


def looks_like_text(body: bytes) -> bool:
    """Whether the beginning of `body` is text in some encoding."""
    return decode_file(body[:SAMPLE_BYTES]) is not None


def _decompressed(body: bytes, coding: str, max_bytes: int) -> tuple[bytes, str]:
    if not body:
        return body, ""
    if coding not in CODINGS:
        raise UnusableResponse("undecodable", f"Content-Encoding {coding!r} is unknown")
    if not body.startswith(MAGIC.get(coding, b"")) or _is_markup(body) or _is_utf8(body):
        return _as_it_is(body, coding)
    try:
        found, repair = CODINGS[coding](body, max_bytes)
    except UnusableResponse as problem:
        if problem.reason == "too_large":
            raise
        return _as_it_is(body, coding)
    # Of a text, too, some bytes can come out before an error: what is broken is the text, then.
    return _as_it_is(body, coding) if repair and coding not in MAGIC and looks_like_text(body) else (found, repair)


def _is_utf8(body: bytes) -> bool:
    """Whether the beginning is UTF-8 without controls, as of compressed data it never is."""
    sample = body[:SAMPLE_BYTES]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return control_share(sample) == 0


def _as_it_is(body: bytes, coding: str) -> tuple[bytes, str]:
    if _is_markup(body) or looks_like_text(body):
        return body, "not_compressed"
    raise UnusableResponse("undecodable", f"no {coding}")


def _gzip(body: bytes, max_bytes: int) -> tuple[bytes, str]:
    return _inflated(body, 31, max_bytes)


def _deflate(body: bytes, max_bytes: int) -> tuple[bytes, str]:
    """Zlib's format by the standard; some servers send raw deflate, as which almost anything begins well."""
    try:
        return _inflated(body, 15, max_bytes)
    except UnusableResponse as problem:
        if problem.reason == "too_large":
            raise
    found, repair = _inflated(body, -15, max_bytes)
    if repair:
        raise UnusableResponse("undecodable", "no deflate")
    return found, repair


def _inflated(body: bytes, wbits: int, max_bytes: int) -> tuple[bytes, str]:
    parts: list[bytes] = []
    size, at, complete = 0, 0, False
    while at < len(body):
        member = CompressedStream(body, at, wbits)
        try:
            for part in member:
                parts.append(part)
                size += len(part)
                if size > max_bytes:
                    raise UnusableResponse("too_large", f"more than {max_bytes} bytes")
        except zlib.error as error:
            if complete:  # what follows a whole body is none of it
                break
            if not size:
                raise UnusableResponse("undecodable", str(error)) from None
        if member.end is None:
            return b"".join(parts), "body_incomplete"
        complete = True
        # Gzip allows several members in a row; what else follows a whole body is none of it.
        at = member.end if wbits == 31 and body.startswith(GZIP, member.end) else len(body)
    return b"".join(parts), ""


def _by_arrow(codec: str, body: bytes, max_bytes: int) -> tuple[bytes, str]:
    import pyarrow as pa

    parts: list[bytes] = []
    size, repair = 0, ""
    stream: Any = pa.input_stream(io.BytesIO(body), compression=codec)
    try:
        while part := stream.read(BLOCK_BYTES):
            parts.append(part)
            size += len(part)
            if size > max_bytes:
                raise UnusableResponse("too_large", f"more than {max_bytes} bytes")
    except OSError as error:
        if not parts:
            raise UnusableResponse("undecodable", str(error)) from None
        repair = "body_incomplete"
    return b"".join(parts), repair


MAGIC = {"gzip": GZIP, "x-gzip": GZIP, "zstd": b"\x28\xb5\x2f\xfd"}
CODINGS: dict[str, Callable[[bytes, int], tuple[bytes, str]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": partial(_by_arrow, "brotli"),
    "zstd": partial(_by_arrow, "zstd"),
}
"""What undoes each coding: (body, most bytes) → (what comes out, the repair)."""
