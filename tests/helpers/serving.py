"""A served tiny model for tests: the process of `make serve` on a port of its own."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tasks.quantize.gguf_export import export_gguf
from tests.helpers.checkout import ROOT
from tests.helpers.tiny import tiny_model

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SERVE = [sys.executable, "-m", "tasks.serving"]


def untrained(folder: Path) -> Path:
    """A GGUF model in `folder` that says anything."""
    tiny_model(folder)
    export_gguf(folder, folder / "model.gguf", "q8_0")
    return folder / "model.gguf"


def llama_of(process: "subprocess.Popen[bytes]") -> psutil.Process:
    """The process of llama.cpp that a server has started."""
    (llama,) = psutil.Process(process.pid).children()
    return llama


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(model: Path, *options: str, **environment: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port and process of a server of `model`; killed at the end if it still runs."""
    port = free_port()
    command = [*SERVE, "--model", str(model), "--port", str(port), "--slots", "2", *options]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + 300
        while not _healthy(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield port, process
    finally:
        for _ in range(2):  # the second ends it at once
            process.terminate()
            time.sleep(0.2)
        process.wait(60)


def _healthy(port: int) -> bool:
    try:
        return ask(port, "/health")[0] == 200
    except OSError:
        return False


def ask(port: int, path: str, body: Any = None, raw: bytes | None = None, **headers: str | bytes) -> tuple[int, Any]:
    """Status and JSON of an answer: POST where there is a body, else GET."""
    response = asked(port, path, body, raw, **headers).getresponse()
    return response.status, json.loads(response.read() or b"null")


def asked(
    port: int, path: str, body: Any = None, raw: bytes | None = None, **headers: str | bytes
) -> http.client.HTTPConnection:
    """A connection on which a request was sent; `_` in names of headers stands for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    content = raw if raw is not None else None if body is None else json.dumps(body).encode()
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if content is None else "POST", path, content, named)
    return connection


def events(port: int, path: str, body: dict[str, Any]) -> list[Any]:
    """The events of a stream, which must end with [DONE]."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    lines = [line for line in response.read().decode().split("\n\n") if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]
