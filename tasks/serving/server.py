"""Listening, and ending in order: what is under way is finished first."""

import asyncio
import ipaddress
import logging
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from tasks.core.errors import UserError
from tasks.serving.admission import Admission
from tasks.serving.api_keys import KEYS_VARIABLE
from tasks.serving.connections import BoundedConnection
from tasks.serving.supervisor import Supervisor

GRACE_S = 30.0
"""How long answers under way may go on after SIGTERM or Ctrl-C."""
FAREWELL_S = 1.0
"""How long clients may then take to read that their answer was cut."""
log = logging.getLogger(__name__)


def listening(host: str, port: int, open_to_all: bool) -> socket.socket:
    """A socket that listens there. Port 0: a free one.

    Raises:
        UserError: something listens there, this machine has no such address, or others reach it and it is `open_to_all`.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        if open_to_all and not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
            raise UserError(
                f"other machines reach {host or 'every address'}, and without an API key they may all ask. "
                f"Name keys in the environment ({KEYS_VARIABLE}) or in a file (--api-key-file)"
            )
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(f"cannot listen on {host}:{port} ({error}). Take another: make serve PORT=8081") from None
    return listener


class DrainingServer(uvicorn.Server):
    """Ends on SIGTERM or SIGINT when the answers under way are given, refusing new requests; at once on a second signal."""

    def __init__(self, app: FastAPI, admission: Admission, llama: Supervisor) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedConnection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._admission, self._llama = admission, llama

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own would raise them again at the end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_log_defects)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._admission.close()
        await self._until_none_is_held(GRACE_S)
        if self._admission.held:
            log.warning("%d answers are cut", self._admission.held)
        self._llama.stop()  # those who still wait are told
        await self._until_none_is_held(FAREWELL_S)
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedConnection) and connection.amid_request:
                connection.transport.abort()
        await super().shutdown(sockets)

    async def _until_none_is_held(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._admission.held and not self.force_exit and time.monotonic() < deadline:
            await asyncio.sleep(0.05)


def _log_defects(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong in a callback, but not that a client left in the moment in which llama.cpp's socket had news:
    anyio then sets a result that nobody awaits any more.
    """
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)
