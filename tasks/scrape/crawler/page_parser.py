"""What the crawler reads in a page: its links, and what it says about itself; and what becomes of the page by that."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tasks.core.parallel.isolated_worker import IsolatedWorker, IsolatedWorkFailed
from tasks.scrape.crawler.browser import Rendered
from tasks.scrape.crawler.fetch_result import HTML_TYPES, FetchResult
from tasks.scrape.crawler.frontier import Link, Outcome
from tasks.scrape.crawler.links import Scope, page_links, page_of
from tasks.scrape.crawler.previous_crawl import PreviousPage
from tasks.scrape.crawler.robots_meta import RobotsDirectives, robots_directives
from tasks.scrape.warc.warc_writer import conversion_record, response_record

SMALL_BYTES = 1 << 18
"""A page that is larger is parsed in a process of its own, for READ_S seconds of processor time at most: the parser takes
some 2 s for the worst page of that size, but 100,000 attributes of one tag take it the square of that."""
READ_S, MEMORY_BYTES = 60.0, 2 << 30
_READER = IsolatedWorker()


@dataclass(frozen=True)
class ParsedPage:
    """`links`: to be entered, those that the page asks not to follow too; `canonical`: key of the URL that it names.

    `noindex`: where the page asks not to be kept, or None; `problem`: why links could not be read or were left out, or None.
    """

    links: list[Link] = field(default_factory=list)
    noindex: str | None = None
    canonical: str | None = None
    problem: str | None = None


def parse_page(url: str, result: FetchResult, scope: Scope, agent: str) -> ParsedPage:
    """Read the page at `url`; a page whose HTML cannot be read still has what its headers say."""
    tags, link_headers = result.header_values("x-robots-tag"), result.header_values("link")
    said: RobotsDirectives | None = None
    links: list[Link] = []
    problem: str | None = None
    if result.media_type in HTML_TYPES:
        try:
            page = page_of(url, {"Content-Type": result.header("content-type")}, result.body)
            said = robots_directives(agent, tags, link_headers, page)
            links, problem = page_links(page, scope)
        except Exception as error:  # lxml and the decoders fail in many ways; the page itself is kept
            problem = f"links cannot be read: {error!r}"
    said = said or robots_directives(agent, tags, link_headers)
    if said.nofollow:
        detail = f"the pages that link here say {said.nofollow}"
        links = [link if link.excluded else link._replace(excluded=detail, outcome="nofollow") for link in links]
    canonical = scope.canonical(url, said.canonical)
    if canonical is not None and not said.nofollow:
        links.append(canonical)
    return ParsedPage(links, said.noindex, canonical.key if canonical else None, problem)


@dataclass(frozen=True)
class PageOutcome:
    """What becomes of a page, as the frontier takes it (`Frontier.finish`)."""

    outcome: Outcome
    record: bytes | None = None
    links: list[Link] = field(default_factory=list)
    canonical: str | None = None


def page_outcome(
    url: str,
    result: FetchResult,
    rendered: Rendered | None,
    previous: PreviousPage | None,
    date: str,
    scope: Scope,
    agent: str,
    ignored: Sequence[re.Pattern[bytes]],
) -> PageOutcome:
    """What becomes of the page that `result` holds, fetched at `date` (ISO 8601 in UTC). `previous`: the page as it was."""
    reading = _read(url, result, scope, agent)
    outcome = replace(result.outcome, fetched_at=date, detail=reading.problem)
    body, kind = result.body, result.header("content-type")
    if rendered is not None:
        outcome = replace(outcome, detail=rendered.note)
        if rendered.html is not None:
            body, kind = rendered.html, "text/html; charset=utf-8"
        if rendered.html is not None and not reading.noindex:
            kept = [pair for pair in result.headers if pair[0].lower() != "content-type"]
            built = replace(result, body=body, headers=[*kept, ("Content-Type", kind)])
            reading = _read(url, built, scope, agent)
        elif rendered.led_to is not None:
            with suppress(ValueError):  # what the browser takes for a URL may be none
                reading.links.append(scope.link(rendered.led_to))
    if reading.noindex:
        return PageOutcome(replace(outcome, name="noindex", detail=reading.noindex), None, reading.links)
    if previous is not None and previous.has_same_content(body, kind, ignored):
        record, outcome = previous.record, previous.outcome
    elif rendered is not None and rendered.html is not None:
        record = conversion_record(url, date, kind, rendered.html)
    else:
        record = response_record(
            url, date, outcome.status or 0, result.protocol, result.headers, result.raw, result.ip_address
        )
    return PageOutcome(outcome, record, reading.links, reading.canonical)


def _read(url: str, result: FetchResult, scope: Scope, agent: str) -> ParsedPage:
    if len(result.body) <= SMALL_BYTES:
        return parse_page(url, result, scope, agent)
    try:
        bare = replace(result, raw=b"")
        return _READER.call(parse_page, url, bare, scope, agent, seconds=READ_S, memory_bytes=MEMORY_BYTES)
    except IsolatedWorkFailed as lost:
        said = parse_page(url, replace(result, body=b""), scope, agent)  # what its headers say
        return replace(said, problem=f"links cannot be read: {lost.detail}")
