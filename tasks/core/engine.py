"""Parallel data work: a function over shards, run by a pool of processes, results in the order of the shards.

What crosses the boundary is a shard's path and parameters going in, counts coming out; documents never do.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tasks.core.errors import UserError
from tasks.core.execution import load_execution
from tasks.core.processes import end_with_parent
from tasks.core.progress import Progress

Shard = TypeVar("Shard")
Result = TypeVar("Result")


def map_shards(
    function: Callable[[Shard], Result],
    shards: Sequence[Shard],
    what: str,
    workers: int | None = None,
) -> Iterator[Result]:
    """Yield `function(shard)` for each shard, in order, whatever the number of workers.

    Args:
        function: a module-level function or a `functools.partial` of one (it is pickled into spawned processes).
        shards: what to work on, typically paths or (input, output) pairs of paths.
        what: the name shown in the progress line.
        workers: processes; default from `execution.yaml`. One worker runs in this process.

    Raises:
        UserError: a worker was killed (most often for memory); names the first shard without a result.
        Exception: what `function` raised, for the first shard that failed.
    """
    workers = min(workers or load_execution().worker_count(), len(shards))
    with Progress(what, total=len(shards), unit="shards") as progress:
        if workers <= 1:
            for shard in shards:
                yield function(shard)
                progress.advance()
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent) as pool:
            futures = [pool.submit(function, shard) for shard in shards]
            try:
                for shard, future in zip(shards, futures, strict=True):
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        raise UserError(
                            f"{what}: a worker process was killed while {shard} was waiting for its result, most "
                            "likely for memory. Lower `workers` in execution.yaml and start again."
                        ) from None
                    progress.advance()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list((pool._processes or {}).values()):
                    process.terminate()
                raise


def _die_with_parent() -> None:
    """Runs in each worker: ignore the terminal's Ctrl-C (the parent handles it), and end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(signal.SIGKILL)
