"""Being asked to stop twice is being asked to stop."""

import subprocess
import sys

import pytest

from tests.helpers.checkout import ROOT


@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT"])
def test_a_second_signal_amid_the_first_holds_nothing_up(second: str) -> None:
    """It arrives while `Event.set` holds its lock; taken up there, it would wait for itself."""
    code = f"""
import signal, threading
from tasks.core.parallel.processes import set_on_signal

event = threading.Event()
handler = set_on_signal(event)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, handler)
wake = event._cond.notify_all

def interrupted():
    signal.raise_signal(signal.{second})
    wake()

event._cond.notify_all = interrupted
signal.raise_signal(signal.SIGTERM)
print(event.is_set())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "True\n"
