"""`python -m flows.supervise -- command ...`: run a command so that nothing of it outlives whoever started it.

It leads a session of its own and, on Linux, adopts orphans (a child subreaper), so that every descendant stays
in reach, also one in a session of its own. When its standard input closes (its parent ended, by SIGKILL too)
or SIGTERM arrives, it ends the whole tree: SIGTERM, a grace, SIGKILL. Elsewhere than on Linux a descendant that
left the process tree is not found.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

import psutil

GRACE_S = float(os.environ.get("TEXTMILL_STOP_GRACE_S", "20"))
"""Seconds between SIGTERM and SIGKILL: enough to save a checkpoint."""
PR_SET_CHILD_SUBREAPER = 36
EXIT_STOPPED = 143


def end_tree(grace_s: float) -> None:
    """End every descendant of this process, youngest first; children born meanwhile too."""
    while descendants := psutil.Process().children(recursive=True):
        for wanted, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 2.0)):
            for process in reversed(descendants):
                try:
                    process.send_signal(wanted)
                except psutil.Error:  # already gone
                    continue
            _, descendants = psutil.wait_procs(descendants, timeout=patience)
            if not descendants:
                break


def main(arguments: list[str]) -> int:
    """Run the command after `--`; its exit code, or 143 when it was stopped."""
    command = arguments[arguments.index("--") + 1 :]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stopping = threading.Event()

    def stop() -> None:
        stopping.set()
        end_tree(GRACE_S)
        os._exit(EXIT_STOPPED)

    def on_signal(_: int, __: FrameType | None) -> None:
        if not stopping.is_set():
            threading.Thread(target=stop).start()

    def watch_parent() -> None:
        while os.read(0, 4096):
            pass
        stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the flow's to handle
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=watch_parent, daemon=True).start()
    code = process.wait()
    if stopping.is_set():
        threading.Event().wait()  # stop() ends this process
    end_tree(1.0)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stdout.flush()
    os._exit(code)  # the thread that reads standard input must not hold the end back
