"""A process of its own for work on what strangers wrote: where a parser hangs, crashes or fills the memory, one piece is lost.

The limit is processor time, counted by the kernel (ITIMER_PROF ends the process, in compiled code as well), so that a
busy machine loses the same pieces as an idle one.
"""

import atexit
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

MEMORY_BYTES = 6 << 30
SERVE = "import sys; sys.path[:] = sys.argv[2:]; from tasks.core.parallel.isolated_worker import serve; serve(int(sys.argv[1]))"
"""The program of the process. One of multiprocessing's would import the whole stage again, which takes longer."""
WALL_FACTOR, WALL_EXTRA_S = 20, 60  # against a process that sleeps forever: no processor time passes
R = TypeVar("R")


class IsolatedWorkFailed(Exception):
    """A piece of work gave no result: `name` is timeout, crashed (most often for memory) or error, with a `detail`."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(name, detail)
        self.name, self.detail = name, detail


class IsolatedWork(NamedTuple):
    """What the process does; `prepare` is done before, where its time does not count."""

    function: partial[Any]
    seconds: float
    memory_bytes: int
    prepare: partial[Any] | None


class IsolatedWorker:
    """A process that does one piece of work at a time, started when first needed and again after it was lost; it ends with
    this one.
    """

    def __init__(self) -> None:
        atexit.register(self.close)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def call(
        self,
        function: Callable[..., R],
        *arguments: object,
        seconds: float,
        memory_bytes: int = MEMORY_BYTES,
        prepare: partial[Any] | None = None,
    ) -> R:
        """What a module-level function returns, within `seconds` of processor time and `memory_bytes` of address space.

        Raises:
            IsolatedWorkFailed: it took longer, the process ended, or it raised an error.
        """
        result: R = self._ask(IsolatedWork(partial(function, *arguments), seconds, memory_bytes, prepare))
        return result

    def _ask(self, work: IsolatedWork) -> Any:
        if self._process is None or self._connection is None or self._process.poll() is not None:
            self._start()
        assert self._connection is not None  # noqa: S101
        try:
            self._connection.send(work)
            if not self._connection.poll(work.seconds * WALL_FACTOR + WALL_EXTRA_S):
                self.close()
                raise IsolatedWorkFailed("timeout", "no answer")
            problem, result = self._connection.recv()
        except (EOFError, OSError):
            code = self.close()
            if code == -signal.SIGPROF:
                raise IsolatedWorkFailed("timeout", f"more than {work.seconds:g} s of processor time") from None
            raise IsolatedWorkFailed("crashed", f"the process ended with {code}") from None
        if problem:
            raise IsolatedWorkFailed("error", problem)
        return result

    def _start(self) -> None:
        self.close()
        self._connection, theirs = Pipe()
        command = [sys.executable, "-c", SERVE, str(theirs.fileno()), *sys.path]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0)
        theirs.close()  # else the end of the process would not be seen as the end of the pipe

    def close(self) -> int | None:
        """End the process; returns its exit code, the negative number of the signal where one ended it."""
        code = None
        if self._connection is not None:
            self._connection.close()  # a process that waits for work ends by itself
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)  # a broken pipe may be seen a moment before the end
            self._process.kill()
            code = self._process.wait()
        self._process = self._connection = None
        return code


def serve(descriptor: int) -> None:
    """Do what a Worker sends through the pipe, until that ends. Does not return."""
    connection = Connection(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with suppress(EOFError, OSError):  # whoever asked is gone
        while True:
            connection.send(_done(connection.recv()))
    os._exit(0)


def _done(work: IsolatedWork) -> tuple[str, Any]:
    """What went wrong, if anything, and the result."""
    if work.prepare:
        with suppress(Exception):
            work.prepare()
    resource.setrlimit(resource.RLIMIT_AS, (work.memory_bytes, MEMORY_BYTES))
    signal.setitimer(signal.ITIMER_PROF, work.seconds)
    try:
        return "", work.function()
    except Exception as error:  # parsers raise many kinds on what is broken
        return repr(error)[:500], None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
