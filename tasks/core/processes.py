"""Processes that do not outlive the one that started them."""

import ctypes
import os
import signal
import sys
import threading
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(number: signal.Signals) -> None:
    """Have this process sent the signal when its parent ends, however that ends. Linux; elsewhere it may outlive it."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() == 1:  # it had ended before prctl took effect
        os.kill(os.getpid(), number)


def end_with_dvc(number: signal.Signals) -> None:
    """Have this process sent the signal when the `dvc` that runs it ends, however that ends.

    The parent's end is not enough: between DVC and its command stands a shell, and not every shell (dash) gives its
    place to the command.
    """
    dvc = dvc_process()

    def watch() -> None:
        if dvc is not None:
            dvc.wait()
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()


def dvc_process() -> psutil.Process | None:
    """The nearest ancestor that is a `dvc` command."""
    for process in psutil.Process().parents():
        try:
            if any(Path(part).name in ("dvc", "__main__.py") or part == "dvc" for part in process.cmdline()[:4]):
                return process
        except psutil.Error:
            break
    return None
