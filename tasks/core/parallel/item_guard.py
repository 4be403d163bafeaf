"""Item guard: one item of many (a document, a page); what goes wrong with it is told by its name, and none takes forever.

What an item costs is bounded by counts, which are the same on every machine. The fuse is for what escaped them: far above
what any item is known to take, and of processor time, so that a busy machine or one that slept burns no fuse.
"""

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.core.errors import UserError

SECONDS = 60.0
SECONDS_A_CHARACTER = 60e-6
"""A million characters get 120 s; cleaned, ordinary text takes 0.4 s of them, the worst of tests/project/test_growth.py 4.6 s."""


class ItemFailed(UserError):
    """An item could not be worked on: `reason` (out_of_time, failed) and `detail`; the message names it and what to do."""

    reason = "failed"
    detail = ""


class _OutOfTime(BaseException):
    """The time is over. A `BaseException`, so that no library's `except Exception` takes it for its own."""


@contextmanager
def guard_item(name: str, characters: int, advice: str, *passing: type[Exception]) -> Iterator[None]:
    """Work on one item inside; exceptions of the kinds `passing`, and a UserError, come out as they are.

    Args:
        name: what the error names, with its file.
        characters: size of the item; it gets SECONDS of processor time and SECONDS_A_CHARACTER for each.
        advice: what the user can do, the last sentence of the error.

    Raises:
        ItemFailed: anything else was raised, or the time is over. Python and its regular expressions are interrupted; a call
            into compiled code is not, so that the time of such is bounded by what it is given.
    """
    seconds = SECONDS + characters * SECONDS_A_CHARACTER
    try:
        with _timer(seconds):
            yield
    except _OutOfTime as error:
        raise _failed(name, "out_of_time", f"took more than {seconds:.0f} s of processor time", error, advice) from None
    except Exception as error:
        if isinstance(error, (UserError, *passing)):
            raise
        raise _failed(name, "failed", repr(error)[:500], error, advice) from error


def _failed(name: str, reason: str, detail: str, error: BaseException, advice: str) -> ItemFailed:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    failed = ItemFailed(f"{name}: {detail} (at {frame.filename}:{frame.lineno}). {advice}")
    failed.reason, failed.detail = reason, detail
    return failed


@contextmanager
def _timer(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # signals are for that one alone
        yield
        return
    before = signal.signal(signal.SIGPROF, _raise_out_of_time)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _raise_out_of_time(*_: object) -> None:
    raise _OutOfTime
