"""Requests as the crawler makes them: robots.txt is obeyed, hosts get their pauses, private addresses are refused, failures
are tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from scrapy import Request, exceptions

from tasks.http import content_encoding
from tasks.http.public_addresses import is_ip_address, is_public
from tasks.http.response import HEAD_BYTES
from tasks.scrape.crawler.download_handler import is_head_too_large
from tasks.scrape.crawler.fetch_result import (
    BACK_OFF_STATUS,
    PDF_TYPES,
    TEXT_TYPES,
    FetchResult,
    private_address_result,
    result_of_error,
    result_of_response,
)
from tasks.scrape.crawler.frontier import Outcome
from tasks.scrape.crawler.politeness import Politeness
from tasks.scrape.crawler.resolver import GuardedResolver, private_behind_proxy
from tasks.scrape.crawler.robots_txt import MAX_BYTES, RobotsCache
from tasks.scrape.crawler.side_thread import run_in_thread
from tasks.scrape.crawler.visit_order import host_of
from tasks.scrape.sources import WebSource


class Fetcher:
    """Fetches for one source. `download`: Scrapy's downloader, a request to its response.

    `request_url(url)` gives the URL to ask for: another only for a server that stands in for a site.
    """

    def __init__(
        self, source: WebSource, request_url: Callable[[str], str], download: Callable[[Request], Awaitable[Any]]
    ) -> None:
        self._source, self._request_url, self._download = source, request_url, download
        self._types = (*TEXT_TYPES, *PDF_TYPES) if source.pdf else TEXT_TYPES
        self._agent = source.product_token
        self._politeness = Politeness(source.max_wait)
        self.robots = RobotsCache(self._robots_txt)

    async def refusal(self, url: str) -> tuple[Outcome | None, float]:
        """Why robots.txt is against a request, or None; and the seconds between requests that it asks for."""
        rules = await self.robots.rules(url)
        return await run_in_thread(rules.refusal, url, self._agent, self._source.max_wait), rules.delay(self._agent)

    async def _robots_txt(self, url: str) -> tuple[Outcome, bytes, str | None]:
        result = await self.fetch(url, 0.0, limit=MAX_BYTES)
        return result.outcome, result.body, result.redirect_target

    async def fetch(
        self, url: str, delay: float, limit: int = 0, conditions: Mapping[str, str] = MappingProxyType({})
    ) -> FetchResult:
        """Ask until there is an answer that waiting would not mend, or the retries are used up.

        `limit`: bytes of a file of any type; without it a page is asked for. `conditions`: headers of a conditional request.
        """
        host = host_of(url)
        attempt = 0
        while True:
            if not await self._politeness.wait_turn(host, max(delay, self._source.delay)):
                return FetchResult(
                    Outcome("retry_later", "the host asked for a pause longer than max_wait", attempts=attempt)
                )
            result = await self._request(url, limit, conditions)
            attempt += 1
            result = replace(result, outcome=replace(result.outcome, attempts=attempt))
            back_off = self._source.retry_delay * 2 ** (attempt - 1)
            if result.outcome.status in BACK_OFF_STATUS:
                self._politeness.pause(host, max(back_off, result.retry_after_s))
                if result.retry_after_s > self._source.max_wait:
                    detail = f"Retry-After: {result.retry_after_s:g} s, max_wait is {self._source.max_wait:g}"
                    return replace(result, outcome=replace(result.outcome, detail=detail))
            if not result.transient or attempt > self._source.retries:
                return result
            await asyncio.sleep(min(max(back_off, result.retry_after_s), max(back_off, self._source.max_wait)))

    async def fetch_file(self, url: str, limit: int) -> FetchResult:
        """A file of any type, of at most `limit` bytes, if robots.txt does not forbid it."""
        refusal, delay = await self.refusal(url)
        return FetchResult(refusal) if refusal else await self.fetch(url, delay, limit=limit)

    async def _request(self, url: str, limit: int, conditions: Mapping[str, str]) -> FetchResult:
        host = (urlsplit(url).hostname or "").lower()
        if host not in self._source.private_hosts and is_ip_address(host) and not is_public(host):
            return private_address_result(host)
        if host not in self._source.private_hosts:
            try:
                private = await private_behind_proxy(url)
            except OSError as error:
                return FetchResult(
                    Outcome("unresolved", f"{error}; a name is checked here before a proxy is asked for it")
                )
            if private:
                return private_address_result(private)
        most = limit or self._source.max_bytes
        headers = {
            "User-Agent": self._source.identity,
            "Accept-Encoding": content_encoding.ACCEPT_ENCODING,
            **conditions,
        }
        if "@" in (self._source.contact or ""):
            headers["From"] = str(self._source.contact)  # RFC 9110, 10.1.2
        types = None if limit else self._types
        meta = {"download_maxsize": most, "download_timeout": self._source.timeout, "types": types}
        try:
            response = await self._download(Request(self._request_url(url), headers=headers, meta=meta))
        except Exception as error:
            if host in GuardedResolver.refused:
                return private_address_result(GuardedResolver.refused[host])
            if is_head_too_large(error):
                return FetchResult(Outcome("too_large", f"more than {HEAD_BYTES} bytes of headers"))
            return result_of_error(error, most)
        return await run_in_thread(result_of_response, url, response, most, types)


def stop_if_no_text(headers: Any, request: Request, **_: Any) -> None:
    """Scrapy's signal at the end of the headers: do not fetch images and the like just to throw them away."""
    kind = (headers.get("Content-Type") or b"").decode("latin-1").partition(";")[0].strip().lower()
    types = request.meta.get("types")
    if types is not None and kind not in types:
        raise exceptions.StopDownload(fail=False)
