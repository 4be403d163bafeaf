"""robots.txt (RFC 9309): what a site asks crawlers to leave alone."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from protego import Protego

from tasks.web.frontier import Outcome

MAX_BYTES = 1 << 20  # RFC 9309 asks for 500 KiB at least
MAX_REDIRECTS = 5  # RFC 9309, 2.3.1.2


@dataclass(frozen=True)
class Rules:
    """What holds for one origin: robots.txt read, or an outcome that all of its pages share."""

    parsed: Any = None
    outcome: Outcome | None = None

    def refusal(self, url: str, agent: str) -> Outcome | None:
        """Why `url` must not be asked for, or None."""
        if self.outcome is not None:
            return self.outcome
        if self.parsed is not None and not self.parsed.can_fetch(url, agent):
            return Outcome("robots", "robots.txt forbids it")
        return None

    def delay(self, agent: str) -> float:
        """Seconds between requests that robots.txt asks for."""
        return float((self.parsed and self.parsed.crawl_delay(agent)) or 0)


class Robots:
    """The rules of every origin met, each read once. `fetch` asks for a URL and gives (outcome, body, redirect target)."""

    def __init__(self, fetch: Callable[[str], Awaitable[tuple[Outcome, bytes, str | None]]]) -> None:
        self._fetch = fetch
        self._rules: dict[str, asyncio.Future[Rules]] = {}

    async def rules(self, url: str) -> Rules:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._rules:
            self._rules[origin] = asyncio.ensure_future(self._read(f"{origin}/robots.txt"))
        return await self._rules[origin]

    async def _read(self, url: str) -> Rules:
        for _ in range(MAX_REDIRECTS + 1):
            outcome, body, target = await self._fetch(url)
            if target is None:
                break
            url = target
        if outcome.name == "saved":
            return Rules(Protego.parse(body.decode("utf-8", "replace")))
        status = outcome.status or 0
        if target is not None or (400 <= status < 500 and status != 429):
            return Rules()  # unavailable: no restrictions (2.3.1.3)
        if status:  # unreachable: everything is forbidden (2.3.1.4)
            return Rules(outcome=Outcome("robots", f"robots.txt: {outcome.name}, which forbids all (RFC 9309)", status))
        return Rules(outcome=Outcome(outcome.name, f"robots.txt: {outcome.detail}", attempts=outcome.attempts))
