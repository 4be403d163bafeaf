"""Python's documentation server (pydoc) over the standard library, on loopback."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.parallel.subprocesses import child_process
from tasks.scrape.sources import PydocSource, WebSource

SITE = "http://pydoc.localhost"
"""The origin in recorded URLs; the server's port differs from run to run."""

READY = re.compile(r"Server ready at (http://\S+?)/?\s")
START_S = 60.0
DENY = (
    r"/$",  # the same page as /index.html
    r"/(getfile|search)\?",  # source code; the search form
    r"\.css$",
    r"[/.](test|tests|idle_test)(\.|_[^/]*\.)",  # the library's tests: four fifths of the time, and hardly any prose
    r"/(encodings|idlelib|lib2to3|__phello__)\.",  # character tables; an editor's and a converter's inside
    # pydoc imports what it shows: these are programs that would run, and a module that opens a browser.
    r"\.__main__\.html$",
    r"/antigravity\.html$",
)
ADDRESSES = (r"(0x|handle )[0-9a-f]{6,}",)
"""Where objects lie in memory, which pages show: another place in each process."""
# Nothing of the user's: the page of the module `os` shows the server's environment variables.
ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


def as_web_source(source: PydocSource) -> WebSource:
    """The crawl of the server: it is ours and answers one request at a time, so there is no need to wait."""
    return WebSource(
        name=source.name,
        licence=source.licence,
        start=(f"{SITE}/index.html",),
        deny=DENY,
        ignore_changes=ADDRESSES,
        max_pages=source.max_pages,
        delay=0.0,
        concurrency=2,
        timeout=60.0,
        allow_private=True,
    )


@contextmanager
def pydoc_server(work: Path) -> Iterator[str]:
    """Serve on 127.0.0.1 at a free port; gives the server's URL. `-I -S` leaves the standard library alone in view.

    Raises:
        UserError: the server does not start.
    """
    said = work / "pydoc.log"
    command = [sys.executable, "-I", "-S", "-m", "pydoc", "-n", "127.0.0.1", "-p", "0"]
    # A file, not a pipe: modules print when they are imported, and nobody would empty the pipe.
    with said.open("wb") as output, child_process(command, output, ENVIRONMENT, Path("/")) as process:
        deadline = time.monotonic() + START_S
        while not (ready := READY.search(said.read_text(encoding="utf-8", errors="replace"))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UserError(
                    f"scrape: {' '.join(command)} did not start. It said: {said.read_text(errors='replace')[-500:]!r}. "
                    "Try that command by hand, or leave out the source of kind pydoc."
                )
            time.sleep(0.05)
        yield ready.group(1)
