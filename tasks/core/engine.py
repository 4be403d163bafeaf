"""Parallel data work: a function over shards, by local processes or on a Ray cluster, results in the order of the shards.

What crosses the boundary is a shard's path and parameters going in, counts coming out; documents never do. A shard
whose worker is lost is tried once more; one that loses its worker twice is named when all others are through.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tasks.core.errors import UserError
from tasks.core.execution import load_execution
from tasks.core.processes import end_with_parent
from tasks.core.progress import Progress

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class WorkerLost(Exception):
    """The process that worked on a shard ended without an answer, twice."""


def map_shards(
    function: Callable[[Shard], Result],
    shards: Sequence[Shard],
    what: str,
    workers: int | None = None,
) -> Iterator[Result]:
    """Yield `function(shard)` for each shard, in order, whatever the engine and the number of workers.

    Args:
        function: a module-level function or a `functools.partial` of one (it is pickled into other processes).
        shards: what to work on, typically paths or (input, output) pairs of paths. On a cluster all machines must
            see the project's folder under the same path.
        what: the name shown in the progress line.
        workers: shards at the same time; default from `execution.yaml`. One local worker runs in this process.

    Raises:
        UserError: workers were lost (most often for memory); names the shards, when all others are done.
        Exception: what `function` raised, for the first shard that failed.
    """
    settings = load_execution()
    with Progress(what, total=len(shards), unit="shards") as progress:
        if settings.engine == "ray":
            from tasks.core.ray_engine import on_ray

            limit = workers or (None if settings.workers == "auto" else settings.workers)
            outcomes = on_ray(function, shards, limit, settings.cluster)
        else:
            outcomes = _in_processes(function, shards, min(workers or settings.worker_count(), len(shards)))
        lost = []
        for shard, outcome in zip(shards, outcomes, strict=True):
            progress.advance()
            if isinstance(outcome, WorkerLost):
                lost.append(str(shard))
            elif not lost:
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
    while at < len(shards):
        pool, futures = _start(function, shards[at:], workers)
        try:
            for future in futures:
                yield future.result()
                at += 1
        except BrokenProcessPool:
            # Whose worker died is not told: whatever was under way goes once more, each by itself.
            suspects = at + workers + 1
            for shard, future in zip(shards[at:suspects], futures[at - len(shards) :], strict=False):
                whole = future.done() and not future.exception()
                yield future.result() if whole else _alone(function, shard)
                at += 1
        finally:
            _end(pool)


def _start(
    function: Callable[[Shard], Result], shards: Sequence[Shard], workers: int
) -> tuple[ProcessPoolExecutor, list[Future[Result]]]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent)
    return pool, [pool.submit(function, shard) for shard in shards]


def _alone(function: Callable[[Shard], Result], shard: Shard) -> Result | WorkerLost:
    pool, (future,) = _start(function, [shard], 1)
    try:
        return future.result()
    except BrokenProcessPool:
        return WorkerLost(shard)
    finally:
        _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _die_with_parent() -> None:
    """Runs in each worker: ignore the terminal's Ctrl-C (the parent handles it), and end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(signal.SIGKILL)
