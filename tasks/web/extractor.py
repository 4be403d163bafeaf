"""Extraction in a process of its own, so that a page or document on which a parser hangs, crashes or fills the memory is
all that is lost.

The limit is processor time, counted by the kernel (ITIMER_PROF ends the process, in compiled code as well), so that a
busy machine removes the same pages as an idle one.
"""

import atexit
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from tasks.web import readers
from tasks.web.document import Content, Unreadable
from tasks.web.extract import How, extract_page

MEMORY_BYTES = 6 << 30
DOCUMENT_MEMORY_BYTES = 2 << 30
"""Of documents, which strangers make to swell: several workers may each have one at a time."""
SERVE = "import sys; sys.path[:] = sys.argv[2:]; from tasks.web.extractor import serve; serve(int(sys.argv[1]))"
"""The program of the process. One of multiprocessing's would import the whole stage again, which takes longer."""
Request = tuple[str, str | bytes, How, float]
"""Kind (html or a document's), content, how to extract it, seconds of processor time."""
Failure = tuple[str, str]
WALL_FACTOR, WALL_EXTRA_S = 20, 60  # against a process that sleeps forever: no processor time passes


class ExtractionFailed(Exception):
    """A page gave no text: reason and detail."""


class Extractor:
    """A process that extracts one page at a time, started when first needed and again after it was lost."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def extract(self, html: str, how: How, seconds: float) -> tuple[str, str]:
        """Text and title of a page.

        Raises:
            ExtractionFailed: it took more than `seconds` of processor time (extraction_timeout), the process
                ended, most often for memory (extraction_crashed), or the parser refused (extraction_error).
        """
        content = self._ask(("html", html, how, seconds))
        return content.text, content.title

    def read(self, kind: str, body: bytes, how: How, seconds: float) -> Content:
        """What a document of a kind of `tasks.web.readers` says.

        Raises:
            ExtractionFailed: as `extract`, or for the reason of `Unreadable`.
        """
        return self._ask((kind, body, how, seconds))

    def _ask(self, request: Request) -> Content:
        if self._process is None or self._connection is None or self._process.poll() is not None:
            self._start()
        assert self._connection is not None  # noqa: S101
        seconds = request[-1]
        try:
            self._connection.send(request)
            if not self._connection.poll(seconds * WALL_FACTOR + WALL_EXTRA_S):
                self.close()
                raise ExtractionFailed("extraction_timeout", "no answer")
            failure, content = self._connection.recv()
        except (EOFError, OSError):
            code = self.close()
            if code == -signal.SIGPROF:
                detail = f"more than {seconds:g} s of processor time"
                raise ExtractionFailed("extraction_timeout", detail) from None
            raise ExtractionFailed("extraction_crashed", f"the process ended with {code}") from None
        if failure:
            raise ExtractionFailed(*failure)
        answer: Content = content
        return answer

    def _start(self) -> None:
        self.close()
        self._connection, theirs = Pipe()
        command = [sys.executable, "-c", SERVE, str(theirs.fileno()), *sys.path]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0)
        theirs.close()  # else the end of the process would not be seen as the end of the pipe

    def close(self) -> int | None:
        """End the process; returns its exit code, the negative number of the signal where one ended it."""
        code = None
        if self._connection is not None:
            self._connection.close()  # a process that waits for a page ends by itself
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)  # a broken pipe may be seen a moment before the end
            self._process.kill()
            code = self._process.wait()
        self._process = self._connection = None
        return code


@cache
def extractor() -> Extractor:
    """The extractor of the running process."""
    only = Extractor()
    atexit.register(only.close)
    return only


def serve(descriptor: int) -> None:
    """Answer what an Extractor sends through the pipe, until that ends. Does not return."""
    connection = Connection(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    loaded: set[str] = set()
    with suppress(EOFError, OSError):  # whoever asked is gone
        while True:
            connection.send(_answer(connection.recv(), loaded))
    os._exit(0)


def _answer(request: Request, loaded: set[str]) -> tuple[Failure | None, Content | None]:
    kind, content, how, seconds = request
    parser = how.extraction if kind == "html" else kind
    if parser not in loaded:  # importing the parser is not the page's time
        with suppress(Exception):
            extract_page("<p>", how) if kind == "html" else readers.read(kind, b"", how.format)
        loaded.add(parser)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES if kind == "html" else DOCUMENT_MEMORY_BYTES, MEMORY_BYTES))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        if isinstance(content, str):
            return None, Content(*extract_page(content, how))
        return None, readers.read(kind, content, how.format)
    except Unreadable as problem:
        return (problem.reason, problem.detail[:500]), None
    except Exception as problem:  # parsers raise many kinds on broken pages, and each costs one page
        return ("extraction_error", repr(problem)[:500]), None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
