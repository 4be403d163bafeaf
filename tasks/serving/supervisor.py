"""llama.cpp in a process of its own, started again whenever it ends: what ends it does not end the server."""

import logging
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

from tasks.core.errors import UserError
from tasks.core.parallel.subprocesses import child_process
from tasks.serving.engine import Engine

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Pauses before llama.cpp is started again: each is twice as long as the one before."""
SETTLED_S = 60.0
"""Having run for so long, it begins with the first pause again."""
log = logging.getLogger(__name__)


class Supervisor(threading.Thread):
    """Keeps the engine's llama.cpp running, for `slots` prompts at a time, until `stop`.

    A thread of its own and no task: the system ends a child together with the thread that started it. While there is no
    llama.cpp, nothing has the name of the engine's socket.
    """

    def __init__(self, engine: Engine, threads: int, slots: int) -> None:
        super().__init__(daemon=True)
        program = [sys.executable, "-m", "tasks.serving.llama_process"]
        self._command = [*program, str(engine.path), str(engine.socket), str(threads), str(slots)]
        self._engine = engine
        self._process: subprocess.Popen[bytes] | None = None
        self._tried, self._stopping = threading.Event(), threading.Event()

    def begin(self) -> None:
        """Start llama.cpp; returns when the model answers.

        Raises:
            UserError: it ended instead.
        """
        self.start()
        self._tried.wait()
        if not self._engine.listens:
            self.stop()
            raise UserError(f"{self._engine.path}: llama.cpp does not run with this model; above it says why")

    def stop(self) -> None:
        """End llama.cpp for good, amid its answers."""
        self._stopping.set()
        if self._process is not None:
            self._process.kill()

    def run(self) -> None:
        """Start it, wait for its end, and again."""
        pause = FIRST_PAUSE_S
        while not self._stopping.is_set():
            started = time.monotonic()
            how = self._run_once()
            self._tried.set()
            self._engine.socket.unlink(missing_ok=True)
            if self._stopping.is_set():
                return
            pause = FIRST_PAUSE_S if time.monotonic() - started > SETTLED_S else pause
            log.warning("llama.cpp ended (%s); it is started again in %.1f s", how, pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            with suppress(UserError):  # llama.cpp will say so itself
                self._engine.load()  # the file may be another by now

    def _run_once(self) -> str:
        """Run it to its end; how it ended."""
        try:
            with child_process(self._command) as self._process:
                self._await_socket(self._process)
                if self._engine.listens:
                    self._tried.set()
                code = self._process.wait()
        except OSError as error:  # no memory for another process
            return str(error)
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _await_socket(self, process: "subprocess.Popen[bytes]") -> None:
        while process.poll() is None and not self._engine.listens:
            if self._stopping.wait(0.05):
                process.kill()
                process.wait()
