"""Work that would hold up the crawler's loop, in a thread beside it: a piece at a time, so that memory is that of one page."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_THREAD = ThreadPoolExecutor(1, "aside")


async def run_in_thread(function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """What `function` returns or raises; meanwhile the loop goes on."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, partial(function, *arguments, **options))
