"""Processes that do not outlive the one that started them (Linux; elsewhere they may)."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(number: signal.Signals) -> None:
    """Have this process sent the signal when its parent ends, however that ends."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() == 1:  # it had ended before prctl took effect
        os.kill(os.getpid(), number)
