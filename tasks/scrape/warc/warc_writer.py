"""WARC 1.1 (ISO 28500): pages to records, records to files. Everything in them follows from what was fetched."""

import io
import re
import uuid
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import quote

PAGES_A_FILE = 100
"""Small files, so that the pages can be shared out among workers."""

NO_DATE = "1970-01-01T00:00:00Z"
"""WARC-Date of local files. The standard demands one, and a file's own differs from checkout to checkout."""
BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def response_record(
    url: str,
    date: str,
    status: int,
    protocol: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    ip_address: str | None = None,
) -> bytes:
    """A gzip member with one `response` record. `body` is as it came, content codings included; `date` is ISO 8601 UTC.

    The transfer coding is gone already, so its header is left out and Content-Length says the body's length.
    """
    from warcio.statusandheaders import StatusAndHeaders

    phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""
    dropped = ("transfer-encoding", "content-length", "connection")
    kept = [(name, _ascii(value)) for name, value in headers if name.isascii() and name.lower() not in dropped]
    http = StatusAndHeaders(f"{status} {phrase}".strip(), [*kept, ("Content-Length", str(len(body)))], protocol)
    extra = {"WARC-IP-Address": ip_address} if ip_address else {}
    return _record("response", url, date, body, extra, http)


def _ascii(value: str) -> str:
    """A header's value with what is not ASCII percent-encoded; warcio would miss some of it, and refuse to write the rest."""
    return BEYOND_ASCII.sub(lambda found: quote(found[0], safe=""), value)


def conversion_record(url: str, date: str, content_type: str, body: bytes) -> bytes:
    """A gzip member with one `conversion` record: what was made of the response to `url` of that date (6.8)."""
    extra = {"Content-Type": content_type, "WARC-Refers-To-Target-URI": url, "WARC-Refers-To-Date": date}
    return _record("conversion", url, date, body, extra, None)


def resource_record(url: str, content_type: str, body: bytes) -> bytes:
    """A gzip member with one `resource` record: a local file."""
    return _record("resource", url, NO_DATE, body, {"Content-Type": content_type}, None)


def _record(kind: str, url: str, date: str, body: bytes, extra: dict[str, str], http: object) -> bytes:
    from warcio.warcwriter import WARCWriter

    member = io.BytesIO()
    writer = WARCWriter(member, gzip=True, warc_version="1.1")
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{kind} {date} {url}")
    fields = {"WARC-Record-ID": f"<urn:uuid:{identity}>", "WARC-Date": date, **extra}
    writer.write_record(
        writer.create_warc_record(
            url, kind, payload=io.BytesIO(body), length=len(body), warc_headers_dict=fields, http_headers=http
        )
    )
    return member.getvalue()


class WarcWriter:
    """Writes records to `<prefix>00000.warc.gz`, ... in `folder` as they come, at most 100 a file."""

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self.written = 0
        self._folder, self._prefix = folder, prefix
        self._file: IO[bytes] | None = None

    def path(self, number: int) -> Path:
        """Where the file of that number lies."""
        return self._folder / f"{self._prefix}{number:05d}.warc.gz"

    def add(self, record: bytes) -> None:
        """Take a record: a gzip member."""
        if self._file is None or self.written % PAGES_A_FILE == 0:
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path(self.written // PAGES_A_FILE).open("wb")
        self._file.write(record)
        self.written += 1

    def close(self) -> int:
        """Returns the number of records."""
        if self._file is not None:
            self._file.close()
        return self.written


def write_warcs(records: Iterable[bytes], folder: Path) -> int:
    """Write records as `WarcWriter` does. Returns their number."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = WarcWriter(folder)
    try:
        for record in records:
            writer.add(record)
    finally:
        writer.close()
    return writer.written
