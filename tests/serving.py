"""A served tiny model for tests: the process of `make serve` on a port of its own."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import ROOT

SERVE = [sys.executable, "-m", "tasks.serving"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(model: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port and process of a server of `model`; killed at the end if it still runs."""
    port = free_port()
    process = subprocess.Popen([*SERVE, "--model", str(model), "--port", str(port), "--slots", "2"], cwd=ROOT)
    try:
        deadline = time.monotonic() + 300
        while not _healthy(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield port, process
    finally:
        process.kill()
        process.wait()


def _healthy(port: int) -> bool:
    try:
        return ask(port, "/health")[0] == 200
    except OSError:
        return False


def ask(port: int, path: str, body: Any = None, raw: bytes | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer: POST where there is a body, else GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    content = raw if raw is not None else None if body is None else json.dumps(body).encode()
    connection.request("GET" if content is None else "POST", path, content, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read() or b"null")


def events(port: int, path: str, body: dict[str, Any]) -> list[Any]:
    """The events of a stream, which must end with [DONE]."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    lines = [line for line in response.read().decode().split("\n\n") if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]
