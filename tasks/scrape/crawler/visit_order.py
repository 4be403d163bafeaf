"""Several visits at a time in an order that limits of pages respect, whatever answers first."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import urlsplit

from tasks.scrape.crawler.frontier import Visit

LOOK_AHEAD = 1000  # visits looked at when the first ones must wait for their host


def host_of(url: str) -> str:
    """Host and port, which is what limits and delays count by."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


async def visit_in_order(
    visits: Sequence[Visit],
    visit: Callable[[Visit], Coroutine[Any, Any, bool]],
    room: int,
    concurrency: int,
    host_room: Callable[[str], int],
    host_concurrency: int,
) -> None:
    """Visit until `room` pages are saved; `visit` tells whether it saved one. Visits without room are left alone.

    Never more at a time than pages are wanted, over all and of one host (`host_room` tells how many still are), so that
    those saved are the first ones in order. A visit may overtake others, whose host is busy, only if there is room for
    all of them.
    """
    pending = OrderedDict((number, (one, host_of(one.url))) for number, one in enumerate(visits))
    running: dict[asyncio.Task[bool], str] = {}
    busy: Counter[str] = Counter()

    def next_number() -> int | None:
        found, passed, full = None, 0, []
        for number, (_, host) in pending.items():
            if passed >= LOOK_AHEAD or len(running) + passed >= room:
                break
            left = host_room(host)
            if left <= 0 and not busy[host]:
                full.append(number)
            elif busy[host] < min(host_concurrency, left):
                found = number
                break
            else:
                passed += 1
        for number in full:
            del pending[number]
        return found

    while True:
        while len(running) < min(concurrency, room) and (number := next_number()) is not None:
            one, host = pending.pop(number)
            running[asyncio.create_task(visit(one))] = host
            busy[host] += 1
        if not running:
            return
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            busy[running.pop(task)] -= 1
            room -= task.result()
