"""Connections that do not wait for ever for their client, and not without number (uvicorn bounds neither)."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 256
ARRIVAL_S = 20.0
"""Within this time a connection's next request has arrived, its body included."""
STALL_S = 60.0
"""How long a client may leave an answer unread that does not fit the buffers any more."""


class BoundedConnection(H11Protocol):
    """HTTP/1.1 over one connection. Where there are too many, the one that waits longest for its client makes place."""

    _arrival: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    since = 0.0

    @property
    def amid_request(self) -> bool:
        """Whether a request has begun whose answer has not ended."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def awaits_client(self) -> bool:
        """Whether it is the client's turn: to ask, or to send the rest of what it asks."""
        return not self.amid_request or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_place()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._arrival, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._stall = self.loop.call_later(STALL_S, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
        super().resume_writing()

    def _expect_request(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
        self.since = self.loop.time()
        self._arrival = self.loop.call_later(ARRIVAL_S, self._give_up)

    def _make_place(self) -> None:
        """Close a connection; one that is being closed counts no more. This one is among those that may have to go."""
        mine = [one for one in self.connections if isinstance(one, BoundedConnection)]
        there = [one for one in mine if not one.transport.is_closing()]
        if len(there) > MAX_CONNECTIONS:
            min((one for one in there if one.awaits_client), key=lambda one: one.since).transport.abort()

    def _give_up(self) -> None:
        if self.awaits_client:
            self.transport.abort()
