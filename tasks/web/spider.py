"""The crawler: visits a frontier level by level over Scrapy's downloader, politely, and enters what became of each URL."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from scrapy import Request, Spider, exceptions, signals

from tasks.web import content
from tasks.web.frontier import Frontier, Link, Outcome, Visit
from tasks.web.links import Scope, links_of
from tasks.web.resolver import GuardedResolver, is_literal, is_public
from tasks.web.robots import MAX_BYTES, Robots
from tasks.web.sources import WebSource
from tasks.web.warc import response_record

TEXT_TYPES = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown", "text/x-rst", "")
HTML_TYPES = ("text/html", "application/xhtml+xml", "")
TRANSIENT_STATUS = frozenset((408, 425, 429, 500, 502, 503, 504, 522, 524))
TRANSIENT = frozenset(("timeout", "unresolved", "connection_refused", "connection_failed", "truncated"))
LONGEST_WAIT_S = 120.0  # a longer Retry-After is not waited for
FAILURES: dict[type[Exception], str] = {
    exceptions.DownloadTimeoutError: "timeout",
    exceptions.CannotResolveHostError: "unresolved",
    exceptions.DownloadConnectionRefusedError: "connection_refused",
    exceptions.DownloadFailedError: "connection_failed",
    exceptions.ResponseDataLossError: "truncated",
    exceptions.DownloadCancelledError: "too_large",
}


@dataclass(frozen=True)
class Answer:
    """What a request gave. `body` is decoded, `raw` is as it came over the network; `target` is where a redirect points."""

    outcome: Outcome
    body: bytes = b""
    raw: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    protocol: str = "HTTP/1.1"
    ip_address: str | None = None
    target: str | None = None
    wait_s: float = 0.0

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def media_type(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def transient(self) -> bool:
        return self.outcome.name in TRANSIENT or self.outcome.status in TRANSIENT_STATUS


class SiteSpider(Spider):  # type: ignore[misc]
    """Crawls one source. `asked(url)` gives the URL to ask for: another only for a server that stands in for a site."""

    name = "textmill"

    def __init__(
        self, source: WebSource, frontier: Frontier, asked: Callable[[str], str], saved: Callable[[], None]
    ) -> None:
        super().__init__()
        self.source, self.frontier, self.asked, self.report_saved = source, frontier, asked, saved
        self.scope = Scope(source)
        self.agent = source.user_agent.partition("/")[0].partition(" ")[0]
        self.robots = Robots(self._robots_txt)
        self._next_turn: dict[str, float] = {}

    @classmethod
    def from_crawler(cls, crawler: Any, *args: Any, **options: Any) -> "SiteSpider":
        spider: SiteSpider = super().from_crawler(crawler, *args, **options)
        crawler.signals.connect(_stop_if_no_text, signals.headers_received)
        return spider

    async def start(self) -> AsyncIterator[Any]:
        """The whole crawl. Requests go to the downloader directly: order, retries and redirects are the frontier's."""
        self.frontier.start([self.scope.start(url) for url in self.source.start])
        depth = 0
        while depth <= min(self.source.depth, self.frontier.deepest()):
            await self._visit_level(self.frontier.level(depth))
            if self.frontier.saved() >= self.source.max_pages:
                break
            depth += 1
        self.frontier.close_open(self.source.depth)
        nothing: tuple[Any, ...] = ()
        for request in nothing:  # Scrapy wants an asynchronous generator
            yield request

    async def _visit_level(self, visits: list[Visit]) -> None:
        """Visit in order. Never more at a time than pages are wanted, so that the first ones in order are those saved."""
        waiting = iter(visits)
        saved = self.frontier.saved()
        running: set[asyncio.Task[bool]] = set()
        while True:
            while len(running) < min(self.source.concurrency, self.source.max_pages - saved):
                visit = next(waiting, None)
                if visit is None:
                    break
                running.add(asyncio.create_task(self._visit(visit)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            saved += sum(task.result() for task in done)

    async def _visit(self, visit: Visit) -> bool:
        """Visit a URL and what it redirects to; returns whether a page was saved."""
        following: Visit | None = visit
        while following is not None:
            visit = following
            rules = await self.robots.rules(visit.url)
            refusal = rules.refusal(visit.url, self.agent)
            answer = Answer(refusal) if refusal else await self._fetch(visit.url, rules.delay(self.agent))
            if answer.target is None:
                return self._finish(visit, answer)
            following = self._redirect(visit, answer, answer.target)
        return False

    def _finish(self, visit: Visit, answer: Answer) -> bool:
        if answer.outcome.name != "saved":
            self.frontier.finish(visit, answer.outcome)
            return False
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        outcome = replace(answer.outcome, fetched_at=date)
        links: list[Link] = []
        if answer.media_type in HTML_TYPES:
            try:
                links = list(
                    links_of(visit.url, {"Content-Type": answer.header("content-type")}, answer.body, self.scope)
                )
            except Exception as error:  # lxml and the decoders fail in many ways; the page itself is kept
                outcome = replace(outcome, detail=f"links cannot be read: {error!r}")
        record = response_record(
            visit.url, date, outcome.status or 0, answer.protocol, answer.headers, answer.raw, answer.ip_address
        )
        self.frontier.finish(visit, outcome, record, links)
        self.report_saved()
        return True

    def _redirect(self, visit: Visit, answer: Answer, target: str) -> Visit | None:
        link = self.scope.link(target)
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
        answer = await self._fetch(url, 0.0, robots=True)
        return answer.outcome, answer.body, answer.target

    async def _fetch(self, url: str, delay: float, robots: bool = False) -> Answer:
        """Ask until there is an answer that waiting would not mend, or the retries are used up."""
        attempt = 0
        while True:
            await self._turn(urlsplit(url).netloc, max(delay, self.source.delay))
            answer = await self._request(url, robots)
            attempt += 1
            if not answer.transient or attempt > self.source.retries or answer.wait_s > LONGEST_WAIT_S:
                return replace(answer, outcome=replace(answer.outcome, attempts=attempt))
            await asyncio.sleep(max(self.source.retry_delay * 2 ** (attempt - 1), answer.wait_s))

    async def _turn(self, host: str, delay: float) -> None:
        """Wait until `host` may be asked again."""
        now = time.monotonic()
        turn = max(now, self._next_turn.get(host, 0.0))
        self._next_turn[host] = turn + delay
        if turn > now:
            await asyncio.sleep(turn - now)

    async def _request(self, url: str, robots: bool) -> Answer:
        host = urlsplit(url).hostname or ""
        if not self.source.allow_private and is_literal(host) and not is_public(host):
            return _refused_address(host)
        limit = MAX_BYTES if robots else self.source.max_bytes
        request = Request(
            self.asked(url),
            headers={"User-Agent": self.source.user_agent, "Accept-Encoding": content.ACCEPT_ENCODING},
            meta={"download_maxsize": limit, "download_timeout": self.source.timeout, "any_type": robots},
        )
        try:
            response = await self.crawler.engine.download_async(request)
        except Exception as error:
            if host in GuardedResolver.refused:
                return _refused_address(GuardedResolver.refused[host])
            name = next((name for kind, name in FAILURES.items() if isinstance(error, kind)), "request_failed")
            detail = f"more than {limit} bytes" if name == "too_large" else str(error) or repr(error)
            return Answer(Outcome(name, detail))
        return _answer(url, response, limit, robots)


def _answer(url: str, response: Any, limit: int, robots: bool) -> Answer:
    status, raw = response.status, response.body
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, values in response.headers.items()
        for value in values
    ]
    answer = Answer(
        Outcome(f"http_{status}", None, status, len(raw)),
        raw=raw,
        headers=headers,
        protocol=response.protocol or "HTTP/1.1",
        ip_address=str(response.ip_address) if response.ip_address else None,
    )
    location = answer.header("location")
    if status in (301, 302, 303, 307, 308) and location:
        try:
            target = urljoin(url, location)
        except ValueError:
            return replace(answer, outcome=replace(answer.outcome, detail=f"to {location!r}, which is no URL"))
        return replace(answer, outcome=replace(answer.outcome, name="redirect"), target=target)
    if status in TRANSIENT_STATUS:
        wait = answer.header("retry-after")
        return replace(answer, wait_s=float(wait) if wait.isdigit() else 0.0)
    if not 200 <= status < 300:
        return answer

    def ending(name: str, detail: str | None = None) -> Answer:
        return replace(answer, outcome=replace(answer.outcome, name=name, detail=detail))

    if not robots and answer.media_type not in TEXT_TYPES:
        return ending("no_text", answer.media_type)
    try:
        body = content.decode_content(raw, answer.header("content-encoding"), limit)
    except content.TooLarge:
        return ending("too_large", f"more than {limit} bytes when decompressed")
    except content.Undecodable as error:
        return ending("decode_error", str(error))
    if not body and not robots:
        return ending("empty")
    return replace(ending("saved"), body=body)


def _refused_address(address: str) -> Answer:
    return Answer(Outcome("private_address", f"{address} is no public address; allow_private: true would permit it"))


def _stop_if_no_text(headers: Any, request: Request, **_: Any) -> None:
    """Scrapy's signal at the end of the headers: do not fetch images and the like just to throw them away."""
    kind = (headers.get("Content-Type") or b"").decode("latin-1").partition(";")[0].strip().lower()
    if kind not in TEXT_TYPES and not request.meta.get("any_type"):
        raise exceptions.StopDownload(fail=False)
