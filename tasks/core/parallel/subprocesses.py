"""Processes that this one starts and that never outlive it, however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tasks.core.parallel.processes import PR_SET_PDEATHSIG

GRACE_S = 5.0
# Runs before the program itself, in its process; what prctl sets survives exec.
LAUNCH = (
    "import ctypes, os, sys\n"
    f"sys.platform == 'linux' and ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {int(signal.SIGKILL)}, 0, 0, 0)\n"
    "os.getppid() == int(sys.argv[1]) or sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])"
)


@contextmanager
def child_process(
    command: Sequence[str],
    output: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start `command` (its first part an absolute path) and end it when the block is left, killed if need be.

    `output` takes what it prints, on both streams; without one that goes where this process prints.

    It is killed with this process (Linux), and its standard input, a pipe, then ends (everywhere). Ctrl-C in the
    terminal does not reach it: this process handles it.
    """
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), *command]
    process = subprocess.Popen(
        launcher, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment, cwd=folder, process_group=0
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
