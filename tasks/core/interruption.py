"""Interruption: being asked to stop, by SIGTERM or Ctrl-C; Interrupted is raised wherever the stage is, again and again until it gives in.

Once would not do: what is raised in a destructor or a weak reference's callback is lost, and importing is full of these;
some libraries make an ImportError of it.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tasks.core.errors import Interrupted

REPEAT_S = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_asked_by: str | None = None


def install_handlers() -> None:
    """Have the signals interrupt this process."""
    for number in SIGNALS:
        signal.signal(number, interrupt)


def interrupt(number: int, _: FrameType | None) -> None:
    """A signal handler: raise Interrupted, now and each second, but not while the last one is on its way up."""
    global _asked_by
    if number in SIGNALS:
        _asked_by = signal.Signals(number).name
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, REPEAT_S, REPEAT_S)
    handled = sys.exc_info()[1]
    while handled is not None and not isinstance(handled, Interrupted):
        handled = handled.__context__
    if handled is None:
        raise Interrupted(_asked_by)


@contextmanager
def interruptible() -> Iterator[None]:
    """Whatever happens inside, if this process was asked to stop then it was interrupted."""
    try:
        yield
    except Exception as error:
        if _asked_by:
            raise Interrupted(_asked_by) from error
        raise
    if _asked_by:
        raise Interrupted(_asked_by)


def ignore_further_signals() -> None:
    """If this process was asked to stop, nothing interrupts it from here on: it ends, and its clean-up is to be whole."""
    if _asked_by is None:
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (*SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
