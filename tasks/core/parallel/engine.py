"""Parallel data work: a function over shards, by local processes or on a Ray cluster, results in the order of the shards.

What crosses the boundary is a shard's path and parameters going in, counts coming out; documents never do. A shard
whose worker is lost is tried once more, by itself, and so are those that were handed over with it; one that loses its
worker then is named when all others are through.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from tasks.core.errors import UserError, WorkerLost
from tasks.core.execution import load_execution
from tasks.core.parallel.ray_engine import on_ray
from tasks.core.parallel.worker_pool import start_pool
from tasks.core.progress import Progress

log = logging.getLogger(__name__)
Shard = TypeVar("Shard")
Result = TypeVar("Result")

Place = tuple[Future[list[Result]], int]
"""A result: the future of a group of shards, and where in the group it is."""
MIN_GROUPS_A_WORKER = 50
"""Groups of shards that each worker is given, at least, where there are enough: one by one, they disturb the workers."""
MAX_GROUP_SHARDS = 8
"""Shards in a group, at most: it bounds what one lost worker makes others do again, each by itself."""


def map_shards(
    function: Callable[[Shard], Result],
    shards: Sequence[Shard],
    what: str,
    workers: int | None = None,
    on_worker_lost: Callable[[Shard], Result] | None = None,
) -> Iterator[Result]:
    """Yield `function(shard)` for each shard, in order, whatever the engine and the number of workers.

    Args:
        function: a module-level function or a `functools.partial` of one (it is pickled into other processes).
        shards: what to work on, typically paths or (input, output) pairs of paths. On a cluster all machines must
            see the project's folder under the same path.
        what: the name shown in the progress line.
        workers: shards at the same time; default from `execution.yaml`. One local worker runs in this process.
        instead: called in this process for a shard that loses its worker twice, so that the others need not wait for it.

    Raises:
        UserError: workers were lost (most often for memory), and there is no `on_worker_lost`; names the shards, when all others
            are done.
        Exception: what `function` raised, for the first shard that failed.
    """
    settings = load_execution()
    with Progress(what, total=len(shards), unit="shards") as progress:
        if settings.engine == "ray":
            limit = workers or (None if settings.workers == "auto" else settings.workers)
            outcomes = on_ray(function, shards, limit, settings.cluster)
        else:
            outcomes = _in_processes(function, shards, min(workers or settings.worker_count(), len(shards)))
        lost = []
        for shard, outcome in zip(shards, outcomes, strict=True):
            progress.advance()
            if isinstance(outcome, WorkerLost):
                if on_worker_lost is None:
                    lost.append(str(shard))
                    continue
                log.warning("%s: the worker of %s was killed, twice: it is set aside", what, shard)
                outcome = on_worker_lost(shard)
            if not lost:
                yield outcome
    if lost:
        raise UserError(
            f"{what}: the worker of {', '.join(lost[:5])}{' and others' if lost[5:] else ''} was killed, twice, most "
            "likely for memory. Lower `workers` in execution.yaml, or look at what is special there, and start again."
        )


def _in_processes(
    function: Callable[[Shard], Result], shards: Sequence[Shard], workers: int
) -> Iterator[Result | WorkerLost]:
    if workers <= 1:
        yield from map(function, shards)
        return
    at = 0
    together = max(1, min(MAX_GROUP_SHARDS, len(shards) // (workers * MIN_GROUPS_A_WORKER)))
    finished: dict[int, Place[Result]] = {}  # ahead of `at`, from pools that broke
    while at < len(shards):
        todo = [n for n in range(at, len(shards)) if n not in finished]
        groups = [todo[k : k + together] for k in range(0, len(todo), together)]
        pool, started = _start(partial(_each, function), [[shards[n] for n in group] for group in groups], workers)
        futures = {  # fewer where the pool broke while it was filled
            n: (future, k) for group, future in zip(groups, started, strict=False) for k, n in enumerate(group)
        }
        try:
            while at in finished or at in futures:
                if at in futures:
                    future, k = futures[at]
                    yield future.result()[k]
                else:
                    future, k = finished.pop(at)
                    yield WorkerLost(shards[at]) if _lost(future) else future.result()[k]
                at += 1
        except BrokenProcessPool:
            # Whose worker died is not told: what was under way goes once more, each by itself.
            whole = {n: place for n, place in futures.items() if not _lost(place[0])}
            finished |= {n: place for n, place in whole.items() if n >= at}
            broken = [n for n in futures if n not in whole][: (workers + 1) * together]  # one waits at the pool's door
            finished |= {n: (_alone(function, shards[n]), 0) for n in broken}
            _end(pool)
        except BaseException:
            _end(pool)
            raise
        else:
            _put_back(pool, workers)


def _each(function: Callable[[Shard], Result], shards: Sequence[Shard]) -> list[Result]:
    return [function(shard) for shard in shards]


def _lost(future: Future[list[Result]]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


@contextmanager
def kept_workers() -> Iterator[None]:
    """While inside, the processes that served one `map_shards` serve the next as well: each takes a second to start."""
    global _kept
    _kept = {}
    try:
        yield
    finally:
        for pool in _kept.values():
            _end(pool)
        _kept = None


_kept: dict[int, ProcessPoolExecutor] | None = None
"""Idle pools by their number of workers; None outside of `kept_workers`."""


def _start(
    function: Callable[[Shard], Result], shards: Sequence[Shard], workers: int
) -> tuple[ProcessPoolExecutor, list[Future[Result]]]:
    """A pool at work on the shards; on the first of them alone where it broke before it had them all."""
    pool = _kept.pop(workers, None) if _kept else None
    if pool is not None:
        if futures := _submit(pool, function, shards):
            return pool, futures
        _end(pool)  # a worker ended while it had nothing to do
    pool = start_pool(workers)
    return pool, _submit(pool, function, shards)


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[Shard], Result], shards: Sequence[Shard]
) -> list[Future[Result]]:
    futures: list[Future[Result]] = []
    with suppress(BrokenProcessPool):
        futures.extend(pool.submit(function, shard) for shard in shards)
    return futures


def _put_back(pool: ProcessPoolExecutor, workers: int) -> None:
    if _kept is None or workers in _kept:
        _end(pool)
    else:
        _kept[workers] = pool


def _alone(function: Callable[[Shard], Result], shard: Shard) -> Future[list[Result]]:
    """Work on a shard in a process of its own; returns when it is done."""
    pool = start_pool(1)
    try:
        future = pool.submit(_each, function, [shard])
        wait([future])
        return future
    finally:
        _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
