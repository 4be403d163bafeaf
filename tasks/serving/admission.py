"""Admission control: how many requests are answered or wait for their turn at a time, and that none is begun when the server is to end."""

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.serving.protocol import RequestError

MAX_REQUESTS = 128
"""Requests that are answered or wait for their turn; what an answer costs, the engine's `slots` bound."""


class Admission:
    """Counts the requests that are held.

    Attributes:
        held: how many there are.
    """

    def __init__(self) -> None:
        self.held, self._closed = 0, False

    def close(self) -> None:
        """Let none in any more."""
        self._closed = True

    def require_open(self) -> None:
        """Go on.

        Raises:
            RequestError: the admission is closed.
        """
        if self._closed:
            raise RequestError("this server is about to end", code="ending", status=503)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Count a request.

        Raises:
            RequestError: the admission is closed, or `MAX_REQUESTS` are counted.
        """
        self.require_open()
        if self.held >= MAX_REQUESTS:
            raise RequestError(f"{MAX_REQUESTS} requests are under way: ask again later", code="overloaded", status=503)
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1
