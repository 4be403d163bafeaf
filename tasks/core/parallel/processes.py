"""Processes that do not outlive the one that started them."""

import ctypes
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(number: signal.Signals) -> None:
    """Have this process sent the signal when its parent ends, however that ends. Linux; elsewhere it may outlive it."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() == 1:  # it had ended before prctl took effect
        os.kill(os.getpid(), number)


SHELLS = {"sh", "dash", "bash", "zsh", "ksh", "fish"}
"""What may stand between DVC and the command it runs: not every shell (dash) gives its place to the command."""


def end_with_dvc(number: signal.Signals) -> None:
    """Have this process sent the signal when the `dvc` that runs it ends, however that ends.

    Where no `dvc` command runs it but DVC's Python API, when that Python program ends.
    """
    runner = dvc_process() or _program()
    if runner is None:
        return

    def watch() -> None:
        runner.wait()
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()


def dvc_process() -> psutil.Process | None:
    """The nearest ancestor that is a `dvc` command."""
    for process in psutil.Process().parents():
        with suppress(psutil.Error):  # it has ended, or may not be looked at
            if any(Path(part).name in ("dvc", "__main__.py") or part == "dvc" for part in process.cmdline()[:4]):
                return process
    return None


def _program() -> psutil.Process | None:
    """The nearest ancestor that is no shell; none where that is the system's first process, which adopts orphans."""
    for process in psutil.Process().parents():
        with suppress(psutil.Error):
            if process.name() not in SHELLS:
                return process if process.pid != 1 else None
    return None


def process_identity(pid: int | None = None) -> str:
    """A process (default: this one), so that others can tell whether it still lives: host, pid and start time."""
    process = psutil.Process(pid)
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.0f}"


def is_gone(process: str) -> bool:
    """Whether the process that `process_identity` named on this host has ended. False for other hosts: nobody here can tell."""
    host, _, rest = process.partition(":")
    pid, _, started = rest.partition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        found = psutil.Process(int(pid))
        return f"{found.create_time():.0f}" != started or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def typed_command(arguments: list[str]) -> str:
    """The command line of a Python process as a person types it: without interpreter and folders."""
    program, rest = "python", arguments[1:]
    if rest[:2] == ["-m", "dvc"]:
        program, rest = "dvc", rest[2:]
    elif rest and not rest[0].startswith("-"):
        program, rest = Path(rest[0]).name, rest[1:]
    return shlex.join([program, *rest])


def set_on_signal(event: threading.Event) -> Callable[[int, FrameType | None], None]:
    """A signal handler that sets `event`, once.

    `Event.set` holds a lock. A second signal interrupts it in the same thread, where another `set` would wait for ever.
    """
    asked = False

    def on_signal(_: int, __: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            event.set()

    return on_signal
