"""Web archives (WARC 1.1, ISO 28500): records out of gzip members, also out of files that are damaged.

Each record is a gzip member of its own (WARC 1.1, annex D), so what comes after a damaged one can be found again.
"""

import io
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tasks.clean.html.extract import HTML_TYPES, PLAIN_TYPES
from tasks.http.response import HEAD_BYTES, HttpResponse, UnusableResponse, charset_of, decode_body

MAGIC = b"\x1f\x8b\x08"
CHUNK_BYTES = 1 << 16
HEADER_BYTES = 2 * HEAD_BYTES  # room for WARC and HTTP headers beside a page of the greatest size allowed


@dataclass(frozen=True)
class FetchedPage:
    """A fetched page, or why there is none.

    Attributes:
        url, content_type: as recorded; empty where unknown. `charset` is the one declared by HTTP.
        body: the payload after transfer and content decoding.
        fetched_at: null for `resource` records, which came from local files.
        problem: a reason and a detail where the record yields no page.
    """

    url: str
    body: bytes = b""
    content_type: str = ""
    charset: str = ""
    fetched_at: datetime | None = None
    problem: tuple[str, str] | None = None


def read_pages(path: Path, max_page_bytes: int, max_document_bytes: int = 0) -> Iterator[FetchedPage]:
    """Yield a page for each `response`, `resource` and `conversion` record, and one with a `problem` for each that cannot be used.

    Problems: `broken_record` (a stretch of the file that cannot be decompressed or is no record), `page_too_large`,
    `undecodable` (its Content-Encoding), `http_status` (no 2xx). Other record types are no pages and are passed over.
    `max_document_bytes` is for what is neither HTML nor plain text.
    """
    limits = max_page_bytes, max(max_page_bytes, max_document_bytes)
    for offset, content in _members(path, limits[1] + HEADER_BYTES):
        where = f"{path.name}, byte {offset}"
        if content is None:
            yield FetchedPage(
                url=f"{path.name}#{offset}", problem=("broken_record", f"{where}: broken or truncated gzip")
            )
            continue
        try:
            yield from _pages(content, *limits)
        except Exception as error:  # warcio raises many kinds on records that break the format
            yield FetchedPage(url=f"{path.name}#{offset}", problem=("broken_record", f"{where}: {error!r}"))


def _members(path: Path, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """(offset, content) of each gzip member, content cut at `limit` bytes; None for a stretch that is no gzip."""
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = 0
        lost = -1  # start of a stretch that could not be read
        while at < len(data):
            member = _decompress(data, at, limit)
            if member is None:
                lost = at if lost < 0 else lost
                following = data.find(MAGIC, at + 1)
                at = following if following >= 0 else len(data)
                continue
            if lost >= 0:
                yield lost, None
                lost = -1
            content, end = member
            yield at, content
            at = end
        if lost >= 0:
            yield lost, None


def _decompress(data: mmap.mmap, start: int, limit: int) -> tuple[bytes, int] | None:
    """The member at `start`, up to `limit` bytes of it, and where it ends; None if it is broken or no WARC record."""
    inflate, parts, size, at = zlib.decompressobj(wbits=31), [], 0, start
    try:
        while not inflate.eof and at < len(data):
            block = inflate.decompress(data[at : at + CHUNK_BYTES], CHUNK_BYTES * 16)
            at += CHUNK_BYTES
            while block or inflate.unconsumed_tail:
                if not size and not block.startswith(b"WARC/"[: len(block)]):
                    return None
                if size < limit:
                    parts.append(block[: limit - size])
                size += len(block)
                if inflate.eof or not inflate.unconsumed_tail:
                    break
                block = inflate.decompress(inflate.unconsumed_tail, CHUNK_BYTES * 16)
    except zlib.error:
        return None
    if not inflate.eof:
        return None
    return b"".join(parts), min(at, len(data)) - len(inflate.unused_data)


def _pages(content: bytes, max_page_bytes: int, max_document_bytes: int) -> Iterator[FetchedPage]:
    from warcio.archiveiterator import ArchiveIterator

    for record in ArchiveIterator(io.BytesIO(content)):
        if record.rec_type not in ("response", "resource", "conversion"):
            continue
        url = record.rec_headers.get_header("WARC-Target-URI") or ""
        headers = record.http_headers if record.rec_type == "response" else record.rec_headers
        if headers is None:  # e.g. a DNS response
            continue
        status = headers.get_statuscode() if record.rec_type == "response" else "200"
        if not status.startswith("2"):
            yield FetchedPage(url, problem=("http_status", f"HTTP status {status or 'missing'}"))
            continue
        # warcio's own decoding stops after the first of several gzip members.
        response = HttpResponse(headers.protocol or "", int(status[:3]), headers.headers, record.raw_stream.read())
        declared = headers.get_header("Content-Type") or ""
        kind = declared.partition(";")[0].strip().lower()
        most = max_document_bytes if kind and kind not in (*HTML_TYPES, *PLAIN_TYPES) else max_page_bytes
        try:
            body, _ = decode_body(response if record.rec_type == "response" else replace(response, headers=[]), most)
        except UnusableResponse as unusable:
            too_large = unusable.reason == "too_large"
            yield FetchedPage(url, problem=("page_too_large" if too_large else unusable.reason, unusable.detail))
            continue
        yield FetchedPage(
            url=url,
            body=body,
            content_type=kind,
            charset=charset_of(declared),
            fetched_at=_date(record.rec_headers.get_header("WARC-Date")) if record.rec_type != "resource" else None,
        )


def _date(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
