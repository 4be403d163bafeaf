"""Requests of somebody who means harm, and a llama.cpp that dies: the server refuses, goes on, and ends in order."""

import http.client
import json
import shutil
import signal
import socket
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.core.errors import UserError
from tasks.core.parallel.processes import is_gone, process_identity
from tasks.serving.access import Access
from tasks.serving.admission import Admission
from tasks.serving.app import make_app
from tasks.serving.engine import Chunk
from tasks.serving.protocol import RequestError
from tests.helpers.running import wait_for
from tests.helpers.serving import CHAT, TEXT, ask, asked, events, llama_of, served, untrained

PLAIN = {"model": "textmill", "prompt": "the cat", "max_tokens": 8}
TALK = {"model": "textmill", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
DEEP: dict[str, Any] = {"type": "string"}
for _ in range(200):
    DEEP = {"type": "object", "properties": {"a": DEEP}}
Server = tuple[int, Any]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(gguf: Path) -> Iterator[Server]:
    """Port and process."""
    with served(gguf) as running:
        yield running


@pytest.fixture
def own_server(gguf: Path) -> Iterator[Server]:
    """One that a test may end."""
    with served(gguf) as running:
        yield running


def held(server: Server, *bodies: dict[str, Any]) -> list[http.client.HTTPConnection]:
    """Connections on which these completions were asked for, each of which now waits for llama.cpp."""
    port, process = server
    front = psutil.Process(process.pid)
    before = len(front.net_connections("unix"))
    connections = [asked(port, TEXT, body) for body in bodies]
    wait_for(lambda: len(front.net_connections("unix")) == before + len(bodies))
    return connections


@pytest.mark.parametrize(
    "change",
    [
        {"grammar": "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000},
        {"json_schema": {"type": "array", "items": {"type": "integer"}, "minItems": 5_000_000}},
        {"json_schema": DEEP},
        {"json_schema": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"schema": {"type": "string", "pattern": "^(a{9})$"}},
            }
        },
        {"tools": [{"type": "function", "function": {"name": "x", "parameters": {"$ref": "#"}}}]},
        {"logit_bias": {"999999999": 5}},
        {"lora": [{"id": 5, "scale": 1}]},
        {"id_slot": -99},
        {"n_probs": 10**9},
        {"samplers": ["x"] * 100_000},
        {"chat_template_kwargs": {"add_generation_prompt": [1]}},
        {"n": 100_000},
        {"max_tokens": -7},
        {"top_k": 1 << 31},
        {"top_k": 10**30},
        {"seed": 1 << 40},
        {"stop": ["a"] * 17},
        {"stop": ["a" * 501]},
        {"user": "u" * 501},
        {"model": "m" * 501},
        {"messages": [{"role": "user", "content": "hi"}] * 1025},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}] * 1025}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}
            ]
        },
        {"messages": [{"role": "user", "content": "hello " * 100_000}]},
        {"messages": [{"role": "user", "content": "a" * 1_000_000}]},
        {"k" * 100_000: 1},
    ],
)
def test_what_costs_llama_cpp_its_life_never_reaches_it(server: Server, change: dict[str, Any]) -> None:
    status, answer = ask(server[0], CHAT, TALK | change)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert len(str(answer)) < 1000
    assert ask(server[0], CHAT, TALK)[0] == 200


@pytest.mark.parametrize(
    "raw", [b'{"temperature": NaN, ', b'{"top_p": 1e999, ', b'{"max_tokens": ' + b"9" * 5000 + b", "]
)
def test_numbers_that_are_none(server: Server, raw: bytes) -> None:
    assert ask(server[0], TEXT, raw=raw + json.dumps(PLAIN).encode()[1:])[0] == 400


def test_what_some_take_for_the_end_of_a_line_is_text(server: Server) -> None:
    """llama.cpp says the prompt again in its last event, and JSON lets these stand as they are."""
    body = {**PLAIN, "prompt": "the cat \u2028 sat \u2029 on \x85 a \x0b\x0c\x1c mat", "temperature": 0}
    status, answer = ask(server[0], "/v1/completions", body)
    assert status == 200
    streamed = "".join(event["choices"][0]["text"] for event in events(server[0], "/v1/completions", body))
    assert streamed == answer["choices"][0]["text"]


def test_a_huge_number_of_tokens_is_what_fits(server: Server) -> None:
    assert ask(server[0], TEXT, PLAIN | {"max_tokens": 10**18})[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/completion",
        "/tokenize",
        "/slots",
        "/slots/0?action=save",
        "/props",
        "/metrics",
        "/infill",
        "/lora-adapters",
        "/models/load",
        "/v1/embeddings",
        "/docs",
        "/openapi.json",
        "/../../etc/passwd",
        "/%2e%2e/etc/passwd",
    ],
)
def test_llama_cpps_own_routes_are_not_served(server: Server, path: str) -> None:
    assert ask(server[0], path)[0] == 404
    assert ask(server[0], path, {"prompt": "x"})[0] == 404


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_dead_llama_cpp_is_told_and_started_again(server: Server, number: signal.Signals) -> None:
    port, process = server
    llama = llama_of(process)
    llama.suspend()
    waiting = held(server, PLAIN, PLAIN | {"stream": True})
    llama.send_signal(number)
    llama.resume()
    for connection in waiting:
        answer = connection.getresponse()
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert json.loads(answer.read())["error"]["type"] == "server_error"
    wait_for(lambda: not llama.is_running() and ask(port, "/health")[0] == 200)
    assert ask(port, TEXT, PLAIN)[0] == 200


def test_a_stream_that_is_cut_ends_with_an_error() -> None:
    from starlette.testclient import TestClient

    class Dying:
        listens, model = True, type("", (), {"context": 100})

        def text_prompt(self, _: str) -> list[int]:
            return [0]

        async def stream(self, *_: Any) -> AsyncGenerator[Chunk, None]:
            yield Chunk("a", 1)
            raise UserError("it died")

    app: Any = make_app(Dying(), "textmill", Access(), gate := Admission())  # type: ignore[arg-type]
    client = TestClient(app, base_url="http://localhost")
    *_, last, end = client.post(TEXT, json=PLAIN | {"stream": True}).text.split("\n\n")
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "no_answer"
    assert end == ""
    assert client.post(TEXT, json=PLAIN).status_code == 503
    assert gate.held == 0


def test_no_more_are_held_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.serving.admission.MAX_REQUESTS", 1)
    gate = Admission()
    for _ in range(2):
        with gate.hold(), pytest.raises(RequestError, match="under way"), gate.hold():
            pass
    assert gate.held == 0


def test_many_half_requests_do_not_hold_up_others(server: Server) -> None:
    """More than there may be connections at all."""
    halves = []
    half = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    for sent in [b"GET /hea", half] * 200:
        halves.append(socket.create_connection(("127.0.0.1", server[0]), timeout=60))
        halves[-1].sendall(sent)
    assert ask(server[0], "/health")[0] == 200
    assert ask(server[0], TEXT, PLAIN)[0] == 200
    for connection in halves:
        connection.close()


def test_sigterm_lets_answers_end_and_begins_none(own_server: Server) -> None:
    port, process = own_server
    llama = llama_of(process)
    llama.suspend()
    stream, plain = held(own_server, PLAIN | {"stream": True}, PLAIN)
    process.terminate()
    wait_for(lambda: ask(port, "/health")[0] == 503)
    for path, body in ((TEXT, PLAIN), ("/v1/models", None)):
        status, answer = ask(port, path, body)
        assert (status, answer["error"]["code"]) == (503, "ending")
    llama.resume()
    assert stream.getresponse().read().endswith(b"data: [DONE]\n\n")
    assert json.loads(plain.getresponse().read())["choices"]
    assert process.wait(60) == 0
    assert not llama.is_running()


def test_a_second_signal_ends_at_once(own_server: Server) -> None:
    port, process = own_server
    llama = llama_of(process)
    llama.suspend()
    held(own_server, PLAIN, PLAIN | {"stream": True})
    process.send_signal(signal.SIGINT)
    wait_for(lambda: ask(port, "/health")[0] == 503)
    process.terminate()
    assert process.wait(60) == 143
    assert not llama.is_running()


def test_nothing_outlives_a_killed_server(own_server: Server) -> None:
    llama = llama_of(own_server[1])
    name, folder = process_identity(llama.pid), Path(llama.cmdline()[-3]).parent
    own_server[1].kill()
    wait_for(lambda: is_gone(name))
    shutil.rmtree(folder)  # of its socket
