"""Web archives to pages and documents: what a record is, and what of it can be used.

`response` and `resource` records of HTML and text become pages, `conversion` records (WET) documents. A record in a gzip
member of its own with nothing to mend is copied as it is, its digests and id with it; others are written anew with
their codings undone. Each record is counted: as saved, as removed with its reason, or as what it is (a request, a
revisit whose payload stands elsewhere, a picture).
"""

import base64
import hashlib
import re
from datetime import UTC, datetime
from pathlib import PurePath
from urllib.parse import urlsplit

from tasks.core.errors import UserError
from tasks.formats.encodings.decode import decode_page
from tasks.http.public_addresses import host_name
from tasks.http.response import HttpResponse, UnusableResponse, charset_of, decode_body, parse_response
from tasks.scrape.files.row_documents import ScrapedDocument, unreadable_document
from tasks.scrape.source_writer import SourceWriter
from tasks.scrape.sources import WarcSource
from tasks.scrape.warc.file_systems import without_secrets
from tasks.scrape.warc.remote_files import NetworkLimits, is_url, open_stream
from tasks.scrape.warc.warc_files import read_records
from tasks.scrape.warc.warc_records import HEADER_BYTES, DamagedSpan, WarcRecord
from tasks.scrape.warc.warc_writer import resource_record, response_record

HTML_TYPES = ("text/html", "application/xhtml+xml")
TEXT_TYPES = (*HTML_TYPES, "text/plain", "text/markdown", "text/x-rst")
NO_PAGES = ("warcinfo", "request", "metadata", "revisit", "continuation")
SHOWN_URL = 2000
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def read_archive(path: str, source: WarcSource, writer: SourceWriter, limit: int | None) -> None:
    """Read a file, local or a URL, into `writer`, up to `limit` pages and documents.

    Raises:
        UserError: a local file cannot be opened or changes meanwhile, or a package is missing.
    """
    name = PurePath(re.split("[?#]", path)[0] if is_url(path) else path).name
    with open_stream(path, network_limits(source)) as stream:
        # Beside a body of the greatest size allowed stands its HTTP head.
        for record in read_records(stream, source.max_bytes + HEADER_BYTES):
            if isinstance(record, DamagedSpan):
                shown = without_secrets(path) if is_url(path) else path
                detail = f"{shown}, byte {record.where}: {record.detail}"
                writer.add_document(unreadable_document(shown, f"{name}#{record.where}", record.reason, detail))
                continue
            if problem := _try_record(record, name, source, writer):
                url = record.headers.get("warc-target-uri", "").strip("<>")[:SHOWN_URL] or f"{name}#{record.where}"
                detail = f"{name}, byte {record.where}: {problem.detail}"
                writer.add_document(unreadable_document(f"{name}#{record.where}", url, problem.reason, detail))
            if limit is not None and writer.saved >= limit:
                return


def _try_record(record: WarcRecord, name: str, source: WarcSource, writer: SourceWriter) -> UnusableResponse | None:
    """Why a record is of no use; None where it was taken. Whatever is wrong with it is, not the end of the file."""
    try:
        _read_record(record, name, source, writer)
    except UnusableResponse as problem:
        return problem
    except (UserError, OSError, AssertionError):
        raise
    except Exception as error:
        return UnusableResponse("broken_record", f"{type(error).__name__}: {error}")
    return None


def network_limits(source: WarcSource) -> NetworkLimits:
    """The source's bounds of what is read over the network."""
    own = frozenset(host_name(url) for url in (*source.paths, source.prefix) if is_url(url))
    return NetworkLimits(source.timeout, source.retries, source.retry_delay, source.max_file_bytes, own)


def _read_record(record: WarcRecord, name: str, source: WarcSource, writer: SourceWriter) -> None:
    kind = record.kind
    if kind not in ("response", "resource", "conversion"):
        writer.count_skipped(f"record_{kind}" if kind in NO_PAGES else "record_unknown")
        return
    if record.headers.get("warc-segment-number"):
        raise UnusableResponse("segmented", "the first segment of a record that goes on in others")
    if record.cut:
        raise UnusableResponse("too_large", f"more than {source.max_bytes} bytes")
    url = record.headers.get("warc-target-uri", "").strip("<>")
    if not url:
        raise UnusableResponse("no_url", "WARC-Target-URI is missing")
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:  # as of http://[
        raise UnusableResponse("bad_url", str(error)) from None
    noted = ["wrong_length"] * record.wrong_length + ["cut_by_crawler"] * bool(record.headers.get("warc-truncated"))
    noted += ["digest_differs"] * _differs(record)
    date = _date(record.headers.get("warc-date", ""))
    if kind == "conversion":
        _add_text(record, f"{name}#{record.where}", url, date, source, writer)
    elif kind == "response":
        if not scheme.startswith("http") or "http" not in record.headers.get("content-type", "http"):
            writer.count_skipped("not_http")
            return
        noted += _add_response(record, url, date, source, writer)
    else:
        media = record.headers.get("content-type", "")
        if _media(media) not in TEXT_TYPES:
            writer.count_skipped("no_text")
            return
        if len(record.block) > source.max_bytes:
            raise UnusableResponse("too_large", f"more than {source.max_bytes} bytes")
        writer.add_page(url, record.block, _record(url, date, 200, "HTTP/1.1", media, record.block))
    writer.counts.repaired.update(noted)


def _add_response(
    record: WarcRecord, url: str, date: datetime | None, source: WarcSource, writer: SourceWriter
) -> list[str]:
    response = parse_response(record.block)
    if not 200 <= response.status < 300:
        raise UnusableResponse("http_status", f"HTTP status {response.status}")
    media = response.header("content-type")
    known = _media(media) or record.headers.get("warc-identified-payload-type", "").lower()
    if known and known not in TEXT_TYPES:
        writer.count_skipped("no_text")
        return []
    body, repairs = decode_body(response, source.max_bytes)
    if not body.strip():
        raise UnusableResponse("empty", "no body")
    writer.add_page(
        url,
        body,
        _copied(record, response, date, repairs)
        or _record(
            url, date, response.status, response.protocol, media or known, body, record.headers.get("warc-ip-address")
        ),
    )
    return repairs


def _copied(record: WarcRecord, response: HttpResponse, date: datetime | None, repairs: list[str]) -> bytes | None:
    """The record as it stands in the archive, if every reader understands it as it was understood here."""
    sound = not (response.header("content-encoding") or response.header("transfer-encoding") or repairs)
    sound = sound and date is not None and ISO_DATE.fullmatch(record.headers["warc-date"]) is not None
    sound = sound and "warc-truncated" not in record.headers and not record.headers["warc-target-uri"].startswith("<")
    return record.member if sound else None


def _record(
    url: str, date: datetime | None, status: int, protocol: str, media: str, body: bytes, address: str | None = None
) -> bytes:
    if date is None:  # a time that nobody knows is none, and a response would have to have one
        return resource_record(url, media or "text/html", body)
    stamp = date.isoformat().replace("+00:00", "Z")
    return response_record(url, stamp, status, protocol, [("Content-Type", media)] if media else [], body, address)


def _add_text(
    record: WarcRecord, where: str, url: str, date: datetime | None, source: WarcSource, writer: SourceWriter
) -> None:
    kind = record.headers.get("content-type", "text/plain")
    if _media(kind) not in TEXT_TYPES:
        writer.count_skipped("no_text")
        return
    decoded = decode_page(record.block, charset_of(kind), _media(kind) in HTML_TYPES)
    about = {
        "languages": record.headers.get("warc-identified-content-language"),
        "record": record.headers.get("warc-record-id"),
        "robots": source.robots,
    }
    meta = {**{key: value for key, value in about.items() if value}, **decoded.meta}
    reason = None if decoded.text.strip() else "empty"
    writer.add_document(
        ScrapedDocument(where, url, record.block, decoded.text, meta, reason, reason and where, decoded.label, date)
    )


def _differs(record: WarcRecord) -> bool:
    """Whether the block is not what WARC-Block-Digest says, where gzip has not checked it and its length is right.

    The digest is in base 32, as Heritrix and Common Crawl write it, or in hexadecimal digits.
    """
    name, _, stated = record.headers.get("warc-block-digest", "").partition(":")
    if record.member or record.wrong_length or name not in ("sha1", "sha256", "md5"):
        return False
    digest = hashlib.new(name, record.block, usedforsecurity=False).digest()
    return stated.upper().rstrip("=") not in (base64.b32encode(digest).decode().rstrip("="), digest.hex().upper())


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _date(text: str) -> datetime | None:
    """WARC-Date (ISO 8601, UTC); older files have 14 digits. None where it is neither."""
    try:
        date = datetime.strptime(text, "%Y%m%d%H%M%S") if text.isdecimal() else datetime.fromisoformat(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
