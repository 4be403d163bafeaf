"""Fetch results: what a request gave; a page, a redirect, or the reason why there is neither."""

import errno
import re
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin

from scrapy import exceptions

from tasks.http import content_encoding
from tasks.scrape.crawler.frontier import Outcome

TEXT_TYPES = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown", "text/x-rst", "")
HTML_TYPES = ("text/html", "application/xhtml+xml", "")
BYTES_TYPES = ("application/octet-stream", "binary/octet-stream")
"""What servers say that know no better: a PDF is told by how it begins."""
PDF_TYPES = ("application/pdf", "application/x-pdf", *BYTES_TYPES)
BACK_OFF_STATUS = frozenset((429, 503))  # the host, not the page, has too much to do (RFC 6585, 4; RFC 9110, 15.6.4)
NO_URL = re.compile(r"[^\x21-\x7e]")
TRANSIENT_STATUS = frozenset((408, 425, 429, 500, 502, 503, 504, 522, 524))
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
TRANSIENT = frozenset(("timeout", "unresolved", "connection_refused", "connection_failed", "truncated"))
FAILURES: Mapping[type[Exception], str] = {
    exceptions.DownloadTimeoutError: "timeout",
    exceptions.CannotResolveHostError: "unresolved",
    exceptions.DownloadConnectionRefusedError: "connection_refused",
    exceptions.DownloadFailedError: "connection_failed",
    exceptions.ResponseDataLossError: "truncated",
    exceptions.DownloadCancelledError: "too_large",
}


@dataclass(frozen=True)
class FetchResult:
    """What a request gave. `body` is decoded, `raw` is as it came over the network; `redirect_target` is where a redirect points.

    `retry_after_s` is what Retry-After asks for.
    """

    outcome: Outcome
    body: bytes = b""
    raw: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    protocol: str = "HTTP/1.1"
    ip_address: str | None = None
    redirect_target: str | None = None
    retry_after_s: float = 0.0

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    def header_values(self, name: str) -> list[str]:
        """The values of a header that may stand there more than once."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def media_type(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def transient(self) -> bool:
        return self.outcome.name in TRANSIENT or self.outcome.status in TRANSIENT_STATUS


def result_of_response(url: str, response: Any, limit: int, types: Collection[str] | None) -> FetchResult:
    """Judge Scrapy's `response`: bodies of more than `limit` bytes, or of none of the media `types`, are no page.

    `types`: None takes any, and a body without content too.
    """
    status, raw = response.status, response.body
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, values in response.headers.items()
        for value in values
    ]
    result = FetchResult(
        Outcome(f"http_{status}", None, status, len(raw)),
        raw=raw,
        headers=headers,
        protocol=response.protocol or "HTTP/1.1",
        ip_address=str(response.ip_address) if response.ip_address else None,
    )
    if not 100 <= status <= 999:
        return replace(result, outcome=Outcome("bad_status", f"{str(status)[:40]} is no status of HTTP"))
    location = _as_ascii(result.header("location"))
    if status in (301, 302, 303, 307, 308) and location:
        try:
            target = urljoin(url, location)
        except ValueError:
            return replace(result, outcome=replace(result.outcome, detail=f"to {location!r}, which is no URL"))
        return replace(result, outcome=replace(result.outcome, name="redirect"), redirect_target=target)
    if status in TRANSIENT_STATUS:
        return replace(result, retry_after_s=parse_retry_after(result.header("retry-after"), result.header("date")))
    if not 200 <= status < 300:
        return result

    def ending(name: str, detail: str | None = None) -> FetchResult:
        return replace(result, outcome=replace(result.outcome, name=name, detail=detail))

    if types is not None and result.media_type not in types:
        return ending("no_text", result.media_type)
    try:
        body = content_encoding.decode_content(raw, result.header("content-encoding"), limit)
    except content_encoding.TooLarge:
        return ending("too_large", f"more than {limit} bytes when decompressed")
    except content_encoding.Undecodable as error:
        return ending("decode_error", str(error))
    if types is not None and not body:
        return ending("empty")
    if types is not None and result.media_type in BYTES_TYPES and not body.startswith(b"%PDF-"):
        return ending("no_text", result.media_type)
    return replace(ending("saved"), body=body)


def _as_ascii(header: str) -> str:
    """A header's address, its bytes beyond ASCII escaped: servers send them raw, in UTF-8 or what they have."""
    return NO_URL.sub(lambda found: f"%{ord(found.group()):02X}", header.strip())


def result_of_error(error: Exception, limit: int) -> FetchResult:
    """The result where Scrapy's downloader raised `error`."""
    name = next((name for kind, name in FAILURES.items() if isinstance(error, kind)), "request_failed")
    return FetchResult(Outcome(name, f"more than {limit} bytes" if name == "too_large" else str(error) or repr(error)))


def visit_failed_outcome(error: Exception) -> Outcome:
    """The outcome of a URL at which something was raised that nobody foresaw."""
    return Outcome("visit_failed", f"{type(error).__name__}: {error}"[:500])


def is_local_error(error: Exception) -> bool:
    """Whether an error is of this machine (its disk, the frontier's file), not of what a site sent."""
    if isinstance(error, sqlite3.DataError):  # a value that does not fit
        return False
    return isinstance(error, sqlite3.DatabaseError) or (isinstance(error, OSError) and error.errno in FULL)


def private_address_result(address: str) -> FetchResult:
    return FetchResult(
        Outcome("private_address", f"{address} is no public address; allow_private could permit the host")
    )


def parse_retry_after(value: str, date: str) -> float:
    """Seconds that a Retry-After header asks to wait: a number or an HTTP date (RFC 9110, 10.2.3); 0 if it is neither.

    A date counts from the server's own clock, its Date header, where there is one: the two clocks may differ.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])  # more digits than that are 30 years
    until = _http_date(value)
    if until is None:
        return 0.0
    return max(0.0, (until - (_http_date(date) or datetime.now(UTC))).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
