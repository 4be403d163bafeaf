"""`python -m flows.supervision.dvc_fork_server FD dvc`: a process that has imported DVC, and forks a supervised `dvc` on request.

A `dvc` that starts from nothing imports for as long as it works. This process has no thread when it forks, nor has it
loaded what does not survive that (torch, numba, MLflow); the flow itself has, so it cannot fork. It is asked over the
socket FD, once a command, with three descriptors: the command's standard input, whose first line is the command as JSON
and whose end stops it (flows.supervision.supervise); its output; and a pipe for its exit code. It ends when the socket closes.
"""

import importlib
import json
import os
import signal
import socket
import sys
from typing import Any

from flows.supervision.supervise import supervise

MODULES = (
    "dvc.cli.parser",
    "dvc.commands.repro",
    "dvc.dependency.param",
    "dvc.repo.reproduce",
    "dvc.rwlock",
    "dvc.scm",
    "dvc.stage.cache",
    "dvc.stage.loader",
    "dvc.stage.run",
    "dvc_data.index",
    "dvc_objects.fs.local",
    "scmrepo.git",
)
"""What `dvc repro` imports on its way; a name that another version of DVC lacks is imported when it is needed."""
DESCRIPTORS = 3


def serve(asked: socket.socket) -> None:
    """Fork for each message until the other end is closed. In the children it does not return."""
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, 1, DESCRIPTORS)
        if not message:
            return
        if os.fork() == 0:
            asked.close()
            _become_supervisor(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        while _reap():
            pass


def _reap() -> bool:
    """Take the exit code of a supervisor that has ended; whether there was one."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _become_supervisor(commands: int, output: int, status: int) -> None:
    """In the forked child: run one command under supervision, tell its exit code, and end."""
    os.setsid()
    for descriptor, standard in ((commands, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, standard)
    os.close(commands)
    os.close(output)
    code = 1
    try:
        request = json.loads(_first_line())
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        code = supervise(lambda: _fork_dvc(request["arguments"], status))
    finally:
        sys.stdout.flush()
        os.write(status, str(code).encode())
        os._exit(code)


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        if not (some := os.read(0, 1 << 16)):
            os._exit(0)  # the flow ended before it said what it wanted
        line += some
    return line


def _fork_dvc(arguments: list[str], status: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code: Any = 1
    try:
        os.close(status)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        sys.argv = ["dvc", *arguments]
        from dvc.cli import main

        code = main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code or 0))
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
