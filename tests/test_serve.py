"""The quantized model behind OpenAI's protocol and in the terminal."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from tiny import tiny_model

from tasks.core.errors import EXIT_USER_ERROR
from tasks.model.gguf import export_gguf

SERVE = [sys.executable, "-m", "tasks.model.serve"]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("model")
    tiny_model(folder, train_steps=60)
    export_gguf(folder, folder / "model.gguf", "q8_0")
    return folder / "model.gguf"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(gguf: Path) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([*SERVE, "--model", str(gguf), "--port", str(port)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                break
        except OSError:
            assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield port
    busy = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    endless = {"prompt": "the cat", "stream": True, "n_predict": 1_000_000, "ignore_eos": True}
    busy.request("POST", "/completion", json.dumps(endless), {"Content-Type": "application/json"})
    assert busy.getresponse().read(10)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0


def test_the_openai_client_streams_a_chat(server: int) -> None:
    from openai import BadRequestError, InternalServerError, OpenAI

    client = OpenAI(base_url=f"http://127.0.0.1:{server}/v1", api_key="none", max_retries=0)
    asked = [{"role": "user", "content": "the cat likes green tea."}]
    stream = client.chat.completions.create(
        model="textmill",
        messages=asked,  # type: ignore[arg-type]
        stream=True,
        max_tokens=24,
        temperature=0,
    )
    pieces = [c.choices[0].delta.content for c in stream if c.choices and c.choices[0].delta.content]
    whole = client.chat.completions.create(model="textmill", messages=asked, max_tokens=24, temperature=0)  # type: ignore[arg-type]
    assert len(pieces) > 1
    assert "".join(pieces) == whole.choices[0].message.content
    assert "<|" not in "".join(pieces)
    assert [model.id for model in client.models.list()] == ["textmill"]
    with pytest.raises((BadRequestError, InternalServerError), match="messages"):
        client.chat.completions.create(model="textmill", messages="hello")  # type: ignore[arg-type]


def test_a_port_that_is_taken(server: int, gguf: Path) -> None:
    done = subprocess.run(
        [*SERVE, "--model", str(gguf), "--port", str(server)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_USER_ERROR
    assert f"127.0.0.1:{server}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["tasks.model.serve", "tasks.model.chat"])
def test_a_model_that_is_missing_or_broken(tmp_path: Path, command: str) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + os.urandom(64))
    for path, said in ((tmp_path / "no.gguf", "make run"), (broken, "no readable GGUF")):
        done = subprocess.run(
            [sys.executable, "-m", command, "--model", str(path)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == EXIT_USER_ERROR
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def chat(gguf: Path, lines: list[str]) -> list[str]:
    command = [sys.executable, "-m", "tasks.model.chat", "--model", str(gguf), "--max-tokens", "24"]
    done = subprocess.run(
        command, cwd=ROOT, input="\n".join(lines), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_chat_answers_lines_until_quit(gguf: Path) -> None:
    answers = chat(gguf, ["the cat likes green tea.", "", "/reset", "my dog sees bread.", "/quit", "music"])
    assert len(answers) == 2
    assert all(answers)


def test_chat_outlives_its_context(gguf: Path) -> None:
    """More is said than the context of 128 tokens holds, and one line alone is longer: the rest is answered."""
    answers = chat(gguf, [*["music is near the sea."] * 10, "my dog sees bread. " * 60, "the cat knows nothing."])
    assert len(answers) == 13  # the end of the input is a line of its own
    assert "too long" in answers[10]
    assert all("too long" not in answer and answer for answer in [*answers[:10], answers[11]])
