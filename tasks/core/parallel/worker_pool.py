"""The processes that work on shards: forked, on Linux, from one that has imported what they need; elsewhere spawned.

A worker that starts from nothing takes more than a second of its core to import numpy, Arrow and numba, and on as many
cores as there are workers. Forking this process itself would be faster still, but not safe: it has threads.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path

from tasks.core.execution import load_execution
from tasks.core.parallel.processes import end_with_parent

PROJECT = Path(__file__).parents[3]


def preload_workers(*modules: str) -> None:
    """Say early that `map_shards` is to come, and what its workers import: that is done while this process goes on.

    Without effect on a cluster, with one worker, and where the platform's libraries do not survive a fork.
    """
    settings = load_execution()
    if settings.engine == "local" and settings.worker_count() > 1:
        _context(modules)


def start_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that have this one's environment variables and end when it ends, however that ends."""
    return ProcessPoolExecutor(workers, _context(()), _begin, (dict(os.environ),))


def _context(modules: tuple[str, ...]) -> BaseContext:
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    main = getattr(sys.modules["__main__"], "__spec__", None)
    own = [f"{main.parent}.stage"] if main and main.parent.startswith("tasks.") else []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tasks.core.parallel.fork_server", *own, *modules])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), before]))
    try:
        forkserver.ensure_running()  # returns at once: the server imports while this process goes on
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


def _begin(environment: Mapping[str, str]) -> None:
    """Runs in each worker: ignore the terminal's Ctrl-C (the parent handles it), and end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(signal.SIGKILL)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
