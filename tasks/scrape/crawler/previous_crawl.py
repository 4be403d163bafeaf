"""What the last crawl of a source brought, for one that looks for changes: pages with what they are asked about by, the log.

A page that has not changed (304, or the same content again) keeps its record, so that it keeps its date and its place.
"""

import io
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.http import content_encoding
from tasks.scrape.crawler.fetch_result import FetchResult
from tasks.scrape.crawler.frontier import Outcome

SCHEMA = "CREATE TABLE pages (url TEXT PRIMARY KEY, record BLOB NOT NULL); CREATE TABLE log (url TEXT PRIMARY KEY, entry TEXT NOT NULL);"
NOT_MODIFIED = 304
ABOUT_THE_PAGE = ("x-robots-tag", "link")
"""Headers whose word counts also when they come with a 304: it has those that changed (RFC 9110, 15.4.5)."""
COMPARED_FIELDS = ("outcome", "status", "depth")


class HostsUnreachable(Exception):
    """None of the hosts that a refresh begins at answers."""


def is_unanswered(result: FetchResult) -> bool:
    """Whether there was none at the moment, or none that tells what is there."""
    return result.transient or result.outcome.name == "retry_later"


@dataclass(frozen=True)
class PreviousPage:
    """A page as it was: its WARC record, what the log said of it, and the result that the record holds."""

    record: bytes
    outcome: Outcome
    result: FetchResult

    @property
    def conditional_headers(self) -> dict[str, str]:
        """Headers that ask for the page only if it has changed (RFC 9110, 13.1); none if the server told nothing to ask by."""
        by = {"If-None-Match": "etag", "If-Modified-Since": "last-modified"}
        return {asked: value for asked, told in by.items() if (value := self.result.header(told))}

    def if_unchanged(self, result: FetchResult) -> FetchResult | None:
        """The page as it was where `result` says that it still is so, or that it cannot be told at the moment; else None."""
        if result.outcome.status == NOT_MODIFIED:
            said = [pair for pair in result.headers if pair[0].lower() in ABOUT_THE_PAGE]
            anew = {name.lower() for name, _ in said}
            return replace(
                self.result, headers=[*(pair for pair in self.result.headers if pair[0].lower() not in anew), *said]
            )
        return self.result if is_unanswered(result) else None

    def has_same_content(self, body: bytes, content_type: str, ignored: Sequence[re.Pattern[bytes]]) -> bool:
        """Whether the page says the same, what `ignored` matches apart."""
        was = self.result.body
        for pattern in ignored if body != was else ():
            body, was = pattern.sub(b"", body), pattern.sub(b"", was)
        return body == was and content_type == self.result.header("content-type")


class PreviousCrawl:
    """The last crawl in the SQLite file at `path`, made by `store_previous_crawl`."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)

    def page(self, url: str, max_bytes: int) -> PreviousPage | None:
        """The page saved of `url`; None where there was none, or one larger than is allowed today."""
        row = self._db.execute("SELECT record, entry FROM pages JOIN log USING (url) WHERE url = ?", (url,)).fetchone()
        return _previous_page(row[0], json.loads(row[1]), max_bytes) if row else None

    def if_unanswered(self, url: str, result: FetchResult) -> FetchResult:
        """What was there instead of a page, a redirect or an error, where there is no answer at the moment; else `result`."""
        row = self._db.execute("SELECT entry FROM log WHERE url = ?", (url,)).fetchone()
        if row is None or not is_unanswered(result):
            return result
        entry: dict[str, Any] = json.loads(row[0])
        target = str(entry.get("detail")).removeprefix("to ") if entry["outcome"] == "redirect" else None
        return result if entry["outcome"] == "saved" else FetchResult(_outcome(entry), redirect_target=target)

    def entry(self, found: dict[str, object]) -> dict[str, object]:
        """The log's entry on a URL: the earlier one, if the same became of it; times and numbers of tries say nothing new."""
        row = self._db.execute("SELECT entry FROM log WHERE url = ?", (found["url"],)).fetchone()
        earlier: dict[str, object] = json.loads(row[0]) if row else {}
        same = all(earlier.get(name) == found.get(name) for name in COMPARED_FIELDS)
        return earlier if same and found["outcome"] != "saved" else found

    def close(self) -> None:
        self._db.close()


def with_unchanged_entries(entries: Iterable[dict[str, object]], last: Path | None) -> Iterator[dict[str, object]]:
    """The entries of a crawl's log, of what has not changed those of the `last` crawl."""
    if last is None:
        yield from entries
        return
    previous = PreviousCrawl(last)
    try:
        yield from map(previous.entry, entries)
    finally:
        previous.close()


def store_previous_crawl(pages: Path, crawl_log: Path, path: Path) -> None:
    """Write the crawl of the WARC files in `pages` and of `crawl_log` to `path`, unless it is there already."""
    if path.exists():
        return
    beside = path.with_suffix(".partial")
    beside.unlink(missing_ok=True)
    db = sqlite3.connect(beside)
    db.executescript(SCHEMA)
    with crawl_log.open(encoding="utf-8") as lines:
        db.executemany("INSERT INTO log VALUES (?, ?)", ((json.loads(line)["url"], line) for line in lines))
    for file in sorted(pages.glob("*.warc.gz")):
        db.executemany("INSERT INTO pages VALUES (?, ?)", _records(file))
    db.commit()
    db.close()
    beside.rename(path)


def _records(file: Path) -> Iterator[tuple[str, bytes]]:
    """URL and gzip member of each record of a WARC file that the crawler wrote."""
    from warcio.archiveiterator import ArchiveIterator

    data = file.read_bytes()
    with file.open("rb") as stream:
        records = ArchiveIterator(stream)
        for record in records:
            url = record.rec_headers.get_header("WARC-Target-URI")
            start = records.get_record_offset()
            yield url, data[start : start + records.get_record_length()]


def _previous_page(member: bytes, entry: dict[str, Any], max_bytes: int) -> PreviousPage | None:
    from warcio.archiveiterator import ArchiveIterator

    record = next(iter(ArchiveIterator(io.BytesIO(member))))
    http, raw = record.http_headers, record.raw_stream.read()
    headers = list(http.headers) if http else [("Content-Type", record.rec_headers.get_header("Content-Type"))]
    result = FetchResult(Outcome("saved", None, entry.get("status"), entry.get("bytes")), raw=raw, headers=headers)
    try:
        body = content_encoding.decode_content(raw, result.header("content-encoding"), max_bytes)
    except (content_encoding.TooLarge, content_encoding.Undecodable):
        return None
    return PreviousPage(member, _outcome(entry), replace(result, body=body)) if len(body) <= max_bytes else None


def _outcome(entry: dict[str, Any]) -> Outcome:
    names = ("detail", "status", "bytes", "attempts", "fetched_at")
    return Outcome(entry["outcome"], **{name: entry[name] for name in names if name in entry})
