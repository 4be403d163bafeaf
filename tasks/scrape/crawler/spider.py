"""The crawler: visits a frontier level by level over Scrapy's downloader, politely, and enters what became of each URL."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin, urlsplit

from scrapy import Request, Spider, exceptions, signals

from tasks.http import content_encoding
from tasks.http.public_addresses import is_ip_address, is_public
from tasks.http.response import HEAD_BYTES
from tasks.scrape.crawler import sitemaps
from tasks.scrape.crawler.browser import Browser, Rendered, find_browser
from tasks.scrape.crawler.download_handler import is_head_too_large
from tasks.scrape.crawler.fetch_result import (
    BACK_OFF_STATUS,
    HTML_TYPES,
    PDF_TYPES,
    TEXT_TYPES,
    Answer,
    answer_of,
    failure,
    is_ours,
    refused_address,
    visit_failed,
)
from tasks.scrape.crawler.frontier import Frontier, Outcome, Visit
from tasks.scrape.crawler.links import Scope
from tasks.scrape.crawler.page_reader import settle
from tasks.scrape.crawler.politeness import Pace
from tasks.scrape.crawler.previous_crawl import NOT_MODIFIED, Before, HostsAway, Known, no_answer
from tasks.scrape.crawler.resolver import GuardedResolver, private_behind_proxy
from tasks.scrape.crawler.robots_txt import MAX_BYTES, Robots
from tasks.scrape.crawler.side_thread import aside
from tasks.scrape.crawler.visit_order import host_of, visit_in_order
from tasks.scrape.sources import WebSource

log = logging.getLogger(__name__)


class SiteSpider(Spider):  # type: ignore[misc]
    """Crawls one source. `asked(url)` gives the URL to ask for: another only for a server that stands in for a site.

    `before`: the last crawl, whose pages are kept where they have not changed or do not answer at the moment.
    """

    name = "textmill"

    def __init__(
        self,
        source: WebSource,
        frontier: Frontier,
        asked: Callable[[str], str],
        saved: Callable[[], None],
        before: Before | None = None,
    ) -> None:
        super().__init__()
        self.before, self._unanswered = before, 0
        self.ignored = [re.compile(pattern.encode()) for pattern in source.ignore_changes]
        self.source, self.frontier, self.asked, self.report_saved = source, frontier, asked, saved
        self.scope = Scope(source)
        self.types = (*TEXT_TYPES, *PDF_TYPES) if source.pdf else TEXT_TYPES
        self.agent = source.user_agent.partition("/")[0].partition(" ")[0]
        self.robots = Robots(self._robots_txt)
        self.pace = Pace(source.max_wait)
        executable = find_browser() if source.render else None
        self.browser = Browser(executable, source.identity, source.max_bytes, self._for_browser) if executable else None
        self._host_pages: Counter[str] = Counter()
        self._visits_left = 0

    @classmethod
    def from_crawler(cls, crawler: Any, *args: Any, **options: Any) -> "SiteSpider":
        spider: SiteSpider = super().from_crawler(crawler, *args, **options)
        crawler.signals.connect(_stop_if_no_text, signals.headers_received)
        return spider

    async def start(self) -> AsyncIterator[Any]:
        """The whole crawl. Requests go to the downloader directly: order, retries and redirects are the frontier's."""
        if self.before and await self._all_away():
            raise HostsAway
        self.frontier.start([self.scope.start(url) for url in self.source.start])
        if self.source.sitemaps and not self.frontier.is_done("sitemaps"):
            await self._sitemaps()
        depth = 0
        while depth <= min(self.source.depth, self.frontier.deepest()):
            if not await self._level_done(depth):
                break
            depth += 1
        full = self.frontier.saved() >= self.source.max_pages
        self.frontier.close_open(self.source.depth, "page_limit" if full else "visit_limit")
        if self._unanswered:
            log.warning("scrape: %s: %d pages did not answer and stay as they were", self.source.name, self._unanswered)
        nothing: tuple[Any, ...] = ()
        for request in nothing:  # Scrapy wants an asynchronous generator
            yield request

    async def _all_away(self) -> bool:
        """Whether no host of the start answers when it is asked for its robots.txt."""
        rules = [await self.robots.rules(url) for url in self.source.start]
        return all(one.outcome is not None and no_answer(Answer(one.outcome)) for one in rules)

    async def _sitemaps(self) -> None:
        named: list[tuple[str, str]] = []
        for url in self.source.start:
            rules = await self.robots.rules(url)
            named += [(sitemap, "robots.txt") for sitemap in rules.sitemaps[: sitemaps.MAX_NAMED]] or [
                (urljoin(url, "/sitemap.xml"), "the crawler: its usual place")
            ]

        async def fetch(url: str) -> Answer:
            try:
                refusal, delay = await self._refusal(url)
                return Answer(refusal) if refusal else await self._fetch(url, delay, limit=sitemaps.MAX_BYTES)
            except Exception as error:
                if is_ours(error):
                    raise
                return Answer(visit_failed(error))

        self.frontier.enter_sitemaps(*await sitemaps.collect(named, fetch, self.scope))

    async def _level_done(self, depth: int) -> bool:
        """Visit all that is wanted at `depth`; False if no more pages are wanted at all."""
        while True:
            self._host_pages = Counter(host_of(url) for url in self.frontier.saved_urls())
            # Pages that are not kept (noindex, copies of a canonical one) count for no limit of pages: without one of
            # visits a site of such pages would have no end.
            most = self.source.max_visits or 10 * self.source.max_pages + 10_000
            self._visits_left = most - self.frontier.visited()
            await visit_in_order(
                self.frontier.level(depth, self.source.max_variants),
                self._visit,
                self.source.max_pages - self.frontier.saved(),
                self.source.concurrency,
                self._host_room,
                self.source.host_concurrency or self.source.concurrency,
            )
            folded = self.frontier.fold_canonicals()
            if self.frontier.saved() >= self.source.max_pages or self._visits_left <= 0:
                return False
            if not folded:  # else there is room for pages in their place
                limit = self.source.host_pages
                self.frontier.close_level(
                    depth, Outcome("host_limit", f"the host's {limit} pages (host_pages) are saved")
                )
                return True

    def _host_room(self, host: str) -> int:
        """Pages of `host` that are still wanted."""
        return (self.source.host_pages or self.source.max_pages) - self._host_pages[host]

    async def _visit(self, visit: Visit) -> bool:
        """Visit a URL and what it redirects to; returns whether a page was saved.

        Whatever a site makes go wrong is the outcome of that URL: one that ended the crawl would do so at each start.
        """
        following: Visit | None = visit if self._visits_left > 0 else None
        saved = False
        while following is not None:
            visit = following
            try:
                saved, following = await self._visit_one(visit)
            except Exception as error:
                if is_ours(error):
                    raise
                self.frontier.finish(visit, visit_failed(error))
                return False
        return saved

    async def _visit_one(self, visit: Visit) -> tuple[bool, Visit | None]:
        """Visit a URL; whether its page was saved, and what it redirects to."""
        self._visits_left -= 1
        refusal, delay = await self._refusal(visit.url)
        self._visits_left += refusal is not None
        known = self.before.page(visit.url, self.source.max_bytes) if self.before else None
        conditions = known.conditions if known and not self.browser else {}
        answer = Answer(refusal) if refusal else await self._fetch(visit.url, delay, conditions=conditions)
        if known and (as_it_was := known.in_place_of(answer)):
            self._unanswered += answer.outcome.status != NOT_MODIFIED
            return await self._finish(visit, as_it_was, None, known), None
        if self.before:
            answer = self.before.in_place_of(visit.url, answer)
        if answer.target is None:
            return await self._finish(visit, answer, await self._rendered(visit, answer), known), None
        return False, self._redirect(visit, answer, answer.target)

    async def _refusal(self, url: str) -> tuple[Outcome | None, float]:
        """Why robots.txt is against a request, or None; and the seconds between requests that it asks for."""
        rules = await self.robots.rules(url)
        return await aside(rules.refusal, url, self.agent, self.source.max_wait), rules.delay(self.agent)

    async def _rendered(self, visit: Visit, answer: Answer) -> Rendered | None:
        """What scripts make of a page, if that is wanted."""
        if self.browser is None or answer.outcome.name != "saved" or answer.media_type not in HTML_TYPES:
            return None
        return await self.browser.render(visit.url, answer)

    async def _for_browser(self, url: str) -> Answer:
        """A request of the browser's: a file of any type, if robots.txt does not forbid it."""
        if urlsplit(url).scheme not in ("http", "https"):
            return Answer(Outcome("excluded", "no http URL"))
        refusal, delay = await self._refusal(url)
        return Answer(refusal) if refusal else await self._fetch(url, delay, limit=self.source.max_bytes)

    async def _finish(self, visit: Visit, answer: Answer, rendered: Rendered | None, known: Known | None) -> bool:
        """Enter what became of a URL in the end; returns whether its page was saved. `known`: the page as it was."""
        host = host_of(visit.url)
        if answer.outcome.name != "saved":
            self.frontier.finish(visit, answer.outcome)
            return False
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        settled = await aside(settle, visit.url, answer, rendered, known, date, self.scope, self.agent, self.ignored)
        saved = settled.record is not None
        if saved and self._host_room(host) <= 0:  # a redirect came from elsewhere
            self.frontier.finish(visit, replace(answer.outcome, name="host_limit"))
            return False
        self.frontier.finish(visit, settled.outcome, settled.record, settled.links, settled.canonical)
        if saved:
            self._host_pages[host] += 1
            self.report_saved()
        return saved

    def _redirect(self, visit: Visit, answer: Answer, target: str) -> Visit | None:
        try:
            link = self.scope.link(target)
            host_of(link.url), urlsplit(link.url).port
        except ValueError:
            self.frontier.finish(visit, replace(answer.outcome, detail=f"to {target!r}, which is no URL"))
            return None
        outcome = replace(answer.outcome, detail=f"to {link.url}")
        chain = self.frontier.chain(visit.key)
        if link.key in chain:
            outcome = replace(outcome, name="redirect_loop")
        elif len(chain) > self.source.redirects:
            outcome = replace(outcome, name="too_many_redirects")
        elif link.excluded:
            outcome = replace(outcome, detail=f"to {link.url}, which is left out: {link.excluded}")
        else:
            return self.frontier.redirect(visit, outcome, link)
        self.frontier.finish(visit, outcome)
        return None

    async def _robots_txt(self, url: str) -> tuple[Outcome, bytes, str | None]:
        answer = await self._fetch(url, 0.0, limit=MAX_BYTES)
        return answer.outcome, answer.body, answer.target

    async def _fetch(
        self, url: str, delay: float, limit: int = 0, conditions: Mapping[str, str] = MappingProxyType({})
    ) -> Answer:
        """Ask until there is an answer that waiting would not mend, or the retries are used up.

        `limit`: bytes of a file of any type; without it a page is asked for. `conditions`: headers of a conditional request.
        """
        host = host_of(url)
        attempt = 0
        while True:
            if not await self.pace.turn(host, max(delay, self.source.delay)):
                return Answer(
                    Outcome("retry_later", "the host asked for a pause longer than max_wait", attempts=attempt)
                )
            answer = await self._request(url, limit, conditions)
            attempt += 1
            answer = replace(answer, outcome=replace(answer.outcome, attempts=attempt))
            back_off = self.source.retry_delay * 2 ** (attempt - 1)
            if answer.outcome.status in BACK_OFF_STATUS:
                self.pace.pause(host, max(back_off, answer.wait_s))
                if answer.wait_s > self.source.max_wait:
                    detail = f"Retry-After: {answer.wait_s:g} s, max_wait is {self.source.max_wait:g}"
                    return replace(answer, outcome=replace(answer.outcome, detail=detail))
            if not answer.transient or attempt > self.source.retries:
                return answer
            await asyncio.sleep(min(max(back_off, answer.wait_s), max(back_off, self.source.max_wait)))

    async def _request(self, url: str, limit: int, conditions: Mapping[str, str]) -> Answer:
        host = (urlsplit(url).hostname or "").lower()
        if host not in self.source.private_hosts and is_ip_address(host) and not is_public(host):
            return refused_address(host)
        if host not in self.source.private_hosts:
            try:
                private = await private_behind_proxy(url)
            except OSError as error:
                return Answer(Outcome("unresolved", f"{error}; a name is checked here before a proxy is asked for it"))
            if private:
                return refused_address(private)
        most = limit or self.source.max_bytes
        headers = {
            "User-Agent": self.source.identity,
            "Accept-Encoding": content_encoding.ACCEPT_ENCODING,
            **conditions,
        }
        if "@" in (self.source.contact or ""):
            headers["From"] = str(self.source.contact)  # RFC 9110, 10.1.2
        types = None if limit else self.types
        meta = {"download_maxsize": most, "download_timeout": self.source.timeout, "types": types}
        try:
            response = await self.crawler.engine.download_async(Request(self.asked(url), headers=headers, meta=meta))
        except Exception as error:
            if host in GuardedResolver.refused:
                return refused_address(GuardedResolver.refused[host])
            if is_head_too_large(error):
                return Answer(Outcome("too_large", f"more than {HEAD_BYTES} bytes of headers"))
            return failure(error, most)
        return await aside(answer_of, url, response, most, types)


def _stop_if_no_text(headers: Any, request: Request, **_: Any) -> None:
    """Scrapy's signal at the end of the headers: do not fetch images and the like just to throw them away."""
    kind = (headers.get("Content-Type") or b"").decode("latin-1").partition(";")[0].strip().lower()
    types = request.meta.get("types")
    if types is not None and kind not in types:
        raise exceptions.StopDownload(fail=False)
