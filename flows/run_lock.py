"""The workspace of a flow run: one run at a time, known by its holder, and signals that ask it to stop."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.core.errors import UserError
from tasks.core.parallel.processes import set_on_signal
from tasks.core.paths import state_folder, write_json


@contextmanager
def hold_workspace(root: Path, name: str) -> Iterator[None]:
    """Hold the workspace for one flow run. The kernel gives the lock back when the process ends, however it ends.

    Raises:
        UserError: another run holds it; says which, since when, and how to stop it.
    """
    state = state_folder(root)
    holder = state / "run.json"
    lock = FileLock(state / "run.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(_held_by(holder)) from None
    try:
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        write_json(holder, {"name": name, "pid": os.getpid(), "host": socket.gethostname(), "started": started})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def require_free_workspace(root: Path) -> None:
    """Check that no flow run holds the workspace, without taking it.

    Raises:
        UserError: one does; says which, since when, and how to stop it.
    """
    state = state_folder(root)
    try:
        with FileLock(state / "run.lock", timeout=0):
            return
    except Timeout:
        raise UserError(_held_by(state / "run.json")) from None


def _held_by(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # between taking the lock and writing the file
        return "another flow run is just starting in this workspace: wait for it to end"
    return (
        f"flow run {who['name']!r} (process {who['pid']} on {who['host']}, since {who['started']}) holds this "
        f"workspace. Wait for it to end, or stop it: kill {who['pid']}"
    )


def repair_dvc_lock(root: Path) -> None:
    """Remove DVC's list of read and written paths where a DVC that was killed left half of it.

    DVC writes it in place and then refuses to start: "RWLock-file ... is corrupted". What it held ended with its writer.
    """
    from dvc.lock import Lock, LockError
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    folder = root / ".dvc" / "tmp"
    if not (folder / RWLOCK_FILE).exists():
        return
    try:
        with Lock(str(folder / RWLOCK_LOCK)):  # nobody is writing it now
            json.loads((folder / RWLOCK_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, LockError):
        return  # another DVC has it: sound then
    except ValueError:
        (folder / RWLOCK_FILE).unlink(missing_ok=True)


@contextmanager
def stop_on_signal(stop: threading.Event) -> Iterator[None]:
    """While inside, SIGTERM and SIGINT set `stop` instead of ending the process. No effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    on_signal = set_on_signal(stop)
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
