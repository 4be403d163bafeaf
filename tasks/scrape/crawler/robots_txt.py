"""robots.txt (RFC 9309): what a site asks crawlers to leave alone."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from protego import Protego

from tasks.formats.encodings.decode import decode_page
from tasks.scrape.crawler.frontier import Outcome
from tasks.scrape.crawler.side_thread import run_in_thread

MAX_BYTES = 1 << 20  # RFC 9309 asks for 500 KiB at least
MAX_REDIRECTS = 5  # RFC 9309, 2.3.1.2


@dataclass(frozen=True)
class RobotsRules:
    """What holds for one origin: robots.txt read, or an outcome that all of its pages share."""

    parsed: Any = None
    outcome: Outcome | None = None

    def refusal(self, url: str, agent: str, max_wait: float) -> Outcome | None:
        """Why `url` must not be asked for, or None."""
        if self.outcome is not None:
            return self.outcome
        if self.parsed is not None and not self.parsed.can_fetch(url, agent):
            return Outcome("robots", "robots.txt forbids it")
        if self.delay(agent) > max_wait:
            return Outcome(
                "robots", f"robots.txt asks for {self.delay(agent):g} s between requests, max_wait is {max_wait:g}"
            )
        return None

    def delay(self, agent: str) -> float:
        """Seconds between requests that robots.txt asks for, by Crawl-delay or, at its hours (UTC), by Request-rate."""
        if self.parsed is None:
            return 0.0
        rate = self.parsed.request_rate(agent)
        between = rate.seconds / rate.requests if rate and rate.requests and _holds(rate) else 0.0
        return float(max(self.parsed.crawl_delay(agent) or 0.0, between))

    @property
    def sitemaps(self) -> list[str]:
        """The sitemaps that robots.txt names."""
        return list(self.parsed.sitemaps) if self.parsed is not None else []


def _holds(rate: Any) -> bool:
    """Whether a Request-rate holds now: `1/10s 0100-0900` does so for eight hours a day, `2200-0400` over midnight."""
    if rate.start_time is None or rate.end_time is None:
        return True
    now = datetime.now(UTC).time()
    if rate.start_time <= rate.end_time:
        return bool(rate.start_time <= now <= rate.end_time)
    return bool(now >= rate.start_time or now <= rate.end_time)


def parse_robots_txt(body: bytes) -> Any:
    """UTF-8 by the standard (2.2); with marks, also amid it where files were joined, and in UTF-16 it is meant, too."""
    return Protego.parse(decode_page(body, html=False).text.replace("\ufeff", ""))


class RobotsCache:
    """The rules of every origin met, each read once. `fetch` asks for a URL and gives (outcome, body, redirect target)."""

    def __init__(self, fetch: Callable[[str], Awaitable[tuple[Outcome, bytes, str | None]]]) -> None:
        self._fetch = fetch
        self._rules: dict[str, asyncio.Future[RobotsRules]] = {}

    async def rules(self, url: str) -> RobotsRules:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._rules:
            self._rules[origin] = asyncio.ensure_future(self._read(f"{origin}/robots.txt"))
        return await self._rules[origin]

    async def _read(self, url: str) -> RobotsRules:
        for _ in range(MAX_REDIRECTS + 1):
            outcome, body, target = await self._fetch(url)
            if target is None:
                break
            url = target
        if outcome.name == "saved":
            try:
                return RobotsRules(await run_in_thread(parse_robots_txt, body))
            except Exception as error:  # whatever the parser makes of it: what it forbids is not known
                return RobotsRules(
                    outcome=Outcome("robots", f"robots.txt cannot be read ({error!r}), so nothing is asked for")
                )
        status = outcome.status or 0
        if target is not None or (400 <= status < 500 and status != 429):
            return RobotsRules()  # unavailable: no restrictions (2.3.1.3)
        if status:  # unreachable: everything is forbidden (2.3.1.4)
            return RobotsRules(
                outcome=Outcome("robots", f"robots.txt: {outcome.name}, which forbids all (RFC 9309)", status)
            )
        return RobotsRules(outcome=Outcome(outcome.name, f"robots.txt: {outcome.detail}", attempts=outcome.attempts))
