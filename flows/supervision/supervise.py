"""`python -m flows.supervision.supervise -- command ...`: run a command so that nothing of it outlives whoever started it.

It leads a session of its own and, on Linux, adopts orphans (a child subreaper), so that every descendant stays
in reach, also one in a session of its own. When its standard input closes (its parent ended, by SIGKILL too)
or SIGTERM arrives, it ends the whole tree: SIGTERM, a grace, SIGKILL; the command itself last, since DVC, ended
while it writes its locks, leaves broken ones. Elsewhere than on Linux a descendant that left the process tree is
not found.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import psutil

from tasks.core.parallel.processes import set_on_signal

GRACE_VARIABLE = "TEXTMILL_STOP_GRACE_S"
"""Seconds between SIGTERM and SIGKILL: enough to save what is under way. `grace_s` of a stage's meta sets it."""
GRACE_S = 20.0
PR_SET_CHILD_SUBREAPER = 36
EXIT_STOPPED = 143
COMMAND_GRACE_S = 3.0
"""Seconds in which the command may end of itself once what it waited for has ended."""


def end_all(find: Callable[[], list[psutil.Process]], grace_s: float) -> bool:
    """End the processes that `find` lists, youngest first; those born meanwhile too. Whether there were any."""
    found = False
    while processes := find():
        found = True
        for wanted, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 2.0)):
            for process in reversed(processes):
                try:
                    process.send_signal(wanted)
                except psutil.Error:  # already gone
                    continue
            _, processes = psutil.wait_procs(processes, timeout=patience)
            if not processes:
                break
    return found


def descendants(pid: int) -> list[psutil.Process]:
    """The living processes below `pid`, parents before their children; none where it has ended."""
    try:
        return [process for process in psutil.Process(pid).children(recursive=True) if _lives(process)]
    except psutil.NoSuchProcess:
        return []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # ended, and its parent has not asked for its exit code
    except psutil.NoSuchProcess:
        return False


def end_tree(command: psutil.Process, grace_s: float) -> None:
    """End what `command` started, then itself, then what left its tree."""
    if end_all(lambda: descendants(command.pid), grace_s):
        with contextlib.suppress(psutil.TimeoutExpired):
            command.wait(COMMAND_GRACE_S)
    end_all(lambda: descendants(os.getpid()), grace_s)


def supervise(start: Callable[[], int]) -> int:
    """Run a command to its end; its exit code, or 143 when it was stopped.

    `start` starts it as a child of this process, which has a single thread then, and returns its pid.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stopping = threading.Event()

    def watch_parent() -> None:
        while os.read(0, 4096):
            pass
        stopping.set()

    def stop() -> None:
        stopping.wait()
        end_tree(command, float(os.environ.get(GRACE_VARIABLE, GRACE_S)))
        ended.set()

    signal.signal(signal.SIGTERM, set_on_signal(stopping))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the flow's to handle
    command, ended = psutil.Process(start()), threading.Event()
    for action in (watch_parent, stop):
        threading.Thread(target=action, daemon=True).start()
    code = command.wait()
    if stopping.is_set():
        ended.wait()
        return EXIT_STOPPED
    end_all(lambda: descendants(os.getpid()), 1.0)
    return 128 - code if code is not None and code < 0 else code or 0


def main(arguments: list[str]) -> int:
    """Supervise the command after `--`."""
    command = arguments[arguments.index("--") + 1 :]
    started: list[subprocess.Popen[bytes]] = []  # kept: a forgotten one would be asked for its exit code by itself

    def start() -> int:
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        return started[0].pid

    return supervise(start)


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stdout.flush()
    os._exit(code)  # the thread that reads standard input must not hold the end back
