"""The spider: visits a frontier level by level and enters what became of each URL."""

import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from scrapy import Spider, signals

from tasks.scrape.crawler import sitemaps
from tasks.scrape.crawler.browser import Browser, Rendered, find_browser
from tasks.scrape.crawler.fetch_result import (
    HTML_TYPES,
    FetchResult,
    is_local_error,
    visit_failed_outcome,
)
from tasks.scrape.crawler.fetcher import Fetcher, stop_if_no_text
from tasks.scrape.crawler.frontier import Frontier, Outcome, Visit
from tasks.scrape.crawler.links import Scope
from tasks.scrape.crawler.page_parser import page_outcome
from tasks.scrape.crawler.previous_crawl import (
    NOT_MODIFIED,
    HostsUnreachable,
    PreviousCrawl,
    PreviousPage,
    is_unanswered,
)
from tasks.scrape.crawler.side_thread import run_in_thread
from tasks.scrape.crawler.visit_order import host_of, visit_in_order
from tasks.scrape.sources import WebSource

log = logging.getLogger(__name__)


class SiteSpider(Spider):  # type: ignore[misc]
    """Crawls one source. `request_url`: see `Fetcher`.

    `previous`: the last crawl, whose pages are kept where they have not changed or do not answer at the moment.
    """

    name = "textmill"

    def __init__(
        self,
        source: WebSource,
        frontier: Frontier,
        request_url: Callable[[str], str],
        saved: Callable[[], None],
        previous: PreviousCrawl | None = None,
    ) -> None:
        super().__init__()
        self.previous, self._unanswered = previous, 0
        self.ignored = [re.compile(pattern.encode()) for pattern in source.ignore_changes]
        self.source, self.frontier, self.report_saved = source, frontier, saved
        self.scope = Scope(source)
        self.fetcher = Fetcher(source, request_url, lambda request: self.crawler.engine.download_async(request))
        executable = find_browser() if source.render else None
        self.browser = Browser(executable, source.identity, source.max_bytes, self._for_browser) if executable else None
        self._host_pages: Counter[str] = Counter()
        self._visits_left = 0

    @classmethod
    def from_crawler(cls, crawler: Any, *args: Any, **options: Any) -> "SiteSpider":
        spider: SiteSpider = super().from_crawler(crawler, *args, **options)
        crawler.signals.connect(stop_if_no_text, signals.headers_received)
        return spider

    async def start(self) -> AsyncIterator[Any]:
        """The whole crawl. Requests go to the downloader directly: order, retries and redirects are the frontier's."""
        if self.previous and await self._all_unreachable():
            raise HostsUnreachable
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

    async def _all_unreachable(self) -> bool:
        """Whether no host of the start answers when it is asked for its robots.txt."""
        rules = [await self.fetcher.robots.rules(url) for url in self.source.start]
        return all(one.outcome is not None and is_unanswered(FetchResult(one.outcome)) for one in rules)

    async def _sitemaps(self) -> None:
        named: list[tuple[str, str]] = []
        for url in self.source.start:
            rules = await self.fetcher.robots.rules(url)
            named += [(sitemap, "robots.txt") for sitemap in rules.sitemaps[: sitemaps.MAX_NAMED]] or [
                (urljoin(url, "/sitemap.xml"), "the crawler: its usual place")
            ]

        async def fetch(url: str) -> FetchResult:
            try:
                return await self.fetcher.fetch_file(url, sitemaps.MAX_BYTES)
            except Exception as error:
                if is_local_error(error):
                    raise
                return FetchResult(visit_failed_outcome(error))

        self.frontier.enter_sitemaps(*await sitemaps.collect_sitemaps(named, fetch, self.scope))

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
                if is_local_error(error):
                    raise
                self.frontier.finish(visit, visit_failed_outcome(error))
                return False
        return saved

    async def _visit_one(self, visit: Visit) -> tuple[bool, Visit | None]:
        """Visit a URL; whether its page was saved, and what it redirects to."""
        self._visits_left -= 1
        refusal, delay = await self.fetcher.refusal(visit.url)
        self._visits_left += refusal is not None
        previous = self.previous.page(visit.url, self.source.max_bytes) if self.previous else None
        conditions = previous.conditional_headers if previous and not self.browser else {}
        result = FetchResult(refusal) if refusal else await self.fetcher.fetch(visit.url, delay, conditions=conditions)
        if previous and (as_it_was := previous.if_unchanged(result)):
            self._unanswered += result.outcome.status != NOT_MODIFIED
            return await self._finish(visit, as_it_was, None, previous), None
        if self.previous:
            result = self.previous.if_unanswered(visit.url, result)
        if result.redirect_target is None:
            return await self._finish(visit, result, await self._rendered(visit, result), previous), None
        return False, self._redirect(visit, result, result.redirect_target)

    async def _rendered(self, visit: Visit, result: FetchResult) -> Rendered | None:
        """What scripts make of a page, if that is wanted."""
        if self.browser is None or result.outcome.name != "saved" or result.media_type not in HTML_TYPES:
            return None
        return await self.browser.render(visit.url, result)

    async def _for_browser(self, url: str) -> FetchResult:
        """A request of the browser's: a file of any type, if robots.txt does not forbid it."""
        if urlsplit(url).scheme not in ("http", "https"):
            return FetchResult(Outcome("excluded", "no http URL"))
        return await self.fetcher.fetch_file(url, self.source.max_bytes)

    async def _finish(
        self, visit: Visit, result: FetchResult, rendered: Rendered | None, previous: PreviousPage | None
    ) -> bool:
        """Enter what became of a URL in the end; returns whether its page was saved. `previous`: the page as it was."""
        host = host_of(visit.url)
        if result.outcome.name != "saved":
            self.frontier.finish(visit, result.outcome)
            return False
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        agent = self.source.product_token
        page = await run_in_thread(
            page_outcome, visit.url, result, rendered, previous, date, self.scope, agent, self.ignored
        )
        saved = page.record is not None
        if saved and self._host_room(host) <= 0:  # a redirect came from elsewhere
            self.frontier.finish(visit, replace(result.outcome, name="host_limit"))
            return False
        self.frontier.finish(visit, page.outcome, page.record, page.links, page.canonical)
        if saved:
            self._host_pages[host] += 1
            self.report_saved()
        return saved

    def _redirect(self, visit: Visit, result: FetchResult, target: str) -> Visit | None:
        try:
            link = self.scope.link(target)
            host_of(link.url), urlsplit(link.url).port
        except ValueError:
            self.frontier.finish(visit, replace(result.outcome, detail=f"to {target!r}, which is no URL"))
            return None
        outcome = replace(result.outcome, detail=f"to {link.url}")
        chain = self.frontier.redirect_chain(visit.key)
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
