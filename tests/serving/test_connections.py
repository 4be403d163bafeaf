"""Clients that do not go on: what they hold is bounded in number and time, and others are answered meanwhile."""

import asyncio
import http.client
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tasks.serving import connections
from tasks.serving.server import listening
from tests.helpers.running import wait_for

LONG, SHORT = 3600.0, 0.2
started, ended = threading.Event(), threading.Event()
HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"


async def echo(request: Request) -> Response:
    try:
        return PlainTextResponse(await request.body())
    except ClientDisconnect:
        return Response()


async def slow(_: Request) -> Response:
    started.set()
    await asyncio.sleep(5 * SHORT)
    return PlainTextResponse("late")


async def endless(_: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x" * 65536
        finally:
            ended.set()

    return StreamingResponse(parts())


@contextmanager
def server() -> Iterator[int]:
    """The port of a server of these routes."""
    routes = [Route("/echo", echo, methods=["POST"]), Route("/slow", slow), Route("/endless", endless)]
    settings = {"http": connections.BoundedConnection, "lifespan": "off", "log_config": None}
    running = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), timeout_graceful_shutdown=1, **settings))
    with listening("127.0.0.1", 0, open_to_all=True) as listener:
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


def opened(port: int, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(sent)
    return connection


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    got = b""
    try:
        while data := connection.recv(65536):
            got += data
    except ConnectionResetError:
        pass
    return got


@pytest.mark.parametrize("sent", [b"", b"GET /ec", HEAD[:-2], HEAD + b"ab", b"GET /slow HTTP/1.1\r\nHost: a\r\nX: y"])
def test_half_a_request_is_waited_for_a_while_only(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ARRIVAL_S", SHORT)
    with server() as port:
        assert received(opened(port, sent)) == b""


def test_so_is_half_of_a_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ARRIVAL_S", SHORT)
    with server() as port:
        got = received(opened(port, HEAD + b"abcd" + HEAD + b"ef"))
        assert got.startswith(b"HTTP/1.1 200")
        assert got.endswith(b"abcd")


def test_who_waits_for_a_slow_answer_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ARRIVAL_S", SHORT)
    with server() as port:
        assert b"late" in received(opened(port, b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))


def test_too_many_connections_close_the_one_that_waits_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ARRIVAL_S", LONG)
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 8)
    started.clear()
    with server() as port:
        busy = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        busy.request("GET", "/slow")
        wait_for(started.is_set)
        halves = [opened(port, HEAD + b"ab") for _ in range(20)]
        assert [received(half) for half in halves[:13]] == [b""] * 13
        assert busy.getresponse().read() == b"late"
        for half in halves[13:]:  # 7 and the busy one
            half.sendall(b"cd")
            assert half.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_reader_that_stops_reading_ends_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_S", SHORT)
    ended.clear()
    with server() as port:
        held = opened(port, b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(ended.is_set)
        held.close()
