"""Starting a supervised `dvc`: forked from one process that has imported DVC, or from nothing."""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

KILLED = -9


class SupervisedProcess(Protocol):
    """A command under flows.supervision.supervise, in a session of its own.

    Attributes:
        lines: what it prints, standard output and error together, until it and all that it started have ended.
    """

    lines: IO[str]

    def stop(self) -> None:
        """Have the whole tree ended; returns at once."""

    def ended(self) -> bool:
        """Whether it has ended."""

    def wait(self) -> int:
        """Wait for its end; the exit code, negative where it was killed."""


Start = Callable[[list[str], Path, Mapping[str, str]], SupervisedProcess]
"""Starts `dvc` with arguments, in a folder, with environment variables."""


def popen(command: list[str], root: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start any `command` under flows.supervision.supervise: it ends with this process, and with its own standard input."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.supervision.supervise", "--", *command],
        cwd=root,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


class _Cold:
    """A `dvc` started from nothing."""

    def __init__(self, arguments: list[str], root: Path, environment: Mapping[str, str]) -> None:
        self._process = popen([sys.executable, "-m", "dvc", *arguments], root, environment)
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        self._input, self.lines = self._process.stdin, self._process.stdout

    def stop(self) -> None:
        self._input.close()

    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        return self._process.wait()


class _Forked:
    """A `dvc` forked by flows.supervision.dvc_fork_server, which is asked over `ask`.

    Raises:
        OSError: that process has ended.
    """

    def __init__(self, ask: socket.socket, arguments: list[str], root: Path, environment: Mapping[str, str]) -> None:
        (theirs, ours), (output, its_output), (status, its_status) = os.pipe(), os.pipe(), os.pipe()
        self._input, self._status = os.fdopen(ours, "w"), os.fdopen(status)
        self.lines: IO[str] = os.fdopen(output, errors="replace")
        try:
            socket.send_fds(ask, [b"."], [theirs, its_output, its_status])
        finally:
            for descriptor in (theirs, its_output, its_status):
                os.close(descriptor)
        request = {"arguments": arguments, "folder": str(root), "environment": dict(environment)}
        self._input.write(json.dumps(request) + "\n")
        self._input.flush()
        self._code: int | None = None

    def stop(self) -> None:
        self._input.close()

    def ended(self) -> bool:
        looks = select.poll()
        looks.register(self._status)
        return bool(looks.poll(0))  # the code is there, or nobody is left who could write it

    def wait(self) -> int:
        if self._code is None:
            self._code = int(self._status.read() or KILLED)
        return self._code


def start_dvc(arguments: list[str], root: Path, environment: Mapping[str, str]) -> SupervisedProcess:
    """Start a `dvc` from nothing."""
    return _Cold(arguments, root, environment)


@contextmanager
def forked_dvc(root: Path, environment: Mapping[str, str]) -> Iterator[Start]:
    """A `Start` that forks each `dvc` from one process, for as long as that lives and where forking is safe (Linux)."""
    if sys.platform != "linux":
        yield start_dvc
        return
    ask, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ask:
        with asked:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.supervision.dvc_fork_server", str(asked.fileno()), "dvc"],
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[asked.fileno()],
                start_new_session=True,
            )

        def start(arguments: list[str], folder: Path, variables: Mapping[str, str]) -> SupervisedProcess:
            try:
                return _Forked(ask, arguments, folder, variables)
            except OSError:  # it was killed
                return start_dvc(arguments, folder, variables)

        yield start
    process.wait()
