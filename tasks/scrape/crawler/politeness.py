"""Politeness: when a host may be asked again; a delay between requests, and pauses that the host asks for."""

import asyncio
import time


class Politeness:
    """Turns of every host met. Pauses hold for all requests to a host, not only for the one that was told to wait.

    A host that wants a longer pause than `max_wait` seconds is closed for that time: nobody waits for it.
    """

    def __init__(self, max_wait: float) -> None:
        self._max_wait = max_wait
        self._next_turn: dict[str, float] = {}
        self._paused_until: dict[str, float] = {}

    async def wait_turn(self, host: str, delay: float) -> bool:
        """Wait until `host` may be asked and take the turn; False if it is closed. `delay`: seconds after this turn."""
        while not self.is_closed(host):
            now = time.monotonic()
            turn = max(now, self._next_turn.get(host, 0.0), self._paused_until.get(host, 0.0))
            self._next_turn[host] = turn + delay
            if turn > now:
                await asyncio.sleep(turn - now)
            if self._paused_until.get(host, 0.0) <= turn:  # else a pause began meanwhile: queue up anew
                return True
        return False

    def pause(self, host: str, seconds: float) -> None:
        """No request to `host` for so long."""
        self._paused_until[host] = max(self._paused_until.get(host, 0.0), time.monotonic() + seconds)

    def is_closed(self, host: str) -> bool:
        """Whether the rest of the host's pause is longer than anyone waits."""
        return self._paused_until.get(host, 0.0) - time.monotonic() > self._max_wait
