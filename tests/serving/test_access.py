"""Who is answered: with a key where there are keys, under a name of the server, and no web page of elsewhere."""

import http.client
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.serving.api_keys import KEYS_VARIABLE, is_known, read_keys
from tests.helpers.checkout import ROOT
from tests.helpers.serving import SERVE, TEXT, ask, asked, free_port, llama_of, served, untrained

PLAIN = {"model": "textmill", "prompt": "the cat", "max_tokens": 8}
PAGE = "https://chat.example.org"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(gguf: Path) -> Iterator[int]:
    with served(gguf) as (port, _):
        yield port


@pytest.fixture(scope="module")
def keyed(gguf: Path) -> Iterator[int]:
    """A server with keys, of a file and of the environment, that goes by a name and that a web page may ask."""
    file = gguf.with_name("keys.txt")
    file.write_text("# of the team\n\nfirst-key\nschlüssel\n", "utf-8")
    options = ["--api-key-file", str(file), "--allow-host", "LLM.example.org", "--allow-origin", f"{PAGE}/"]
    with served(gguf, *options, **{KEYS_VARIABLE: "second-key, third-key"}) as (port, process):
        assert "third-key" not in str(llama_of(process).environ())
        yield port


@pytest.mark.parametrize("key", ["first-key", "second-key", "third-key", "schlüssel"])
def test_every_key_lets_in(keyed: int, key: str) -> None:
    bearer = b"bearer " + key.encode()
    assert ask(keyed, TEXT, PLAIN, Authorization=bearer)[0] == 200


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer first-key2",
        "Basic first-key",
        "first-key",
        b"Bearer \xff\xfe",
    ],
)
@pytest.mark.parametrize("path", [TEXT, "/v1/models", "/nothing"])
def test_nobody_else_is_let_in(keyed: int, given: Any, path: str) -> None:
    headers = {} if given is None else {"Authorization": given}
    status, answer = ask(keyed, path, PLAIN if path == TEXT else None, **headers)
    assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    assert ask(keyed, "/health", **headers) == (200, {"status": "ok"})


def test_the_openai_client_knows_a_refused_key(keyed: int) -> None:
    from openai import AuthenticationError, OpenAI

    for key in ("first-key", "wrong"):
        client = OpenAI(base_url=f"http://127.0.0.1:{keyed}/v1", api_key=key, max_retries=0)
        if key == "wrong":
            with pytest.raises(AuthenticationError, match="API key"):
                client.models.list()
        else:
            assert [model.id for model in client.models.list()] == ["textmill"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_other_machines_are_not_served_without_a_key(host: str, tmp_path: Path) -> None:
    """Said before anything of the model is looked at."""
    command = [*SERVE, "--host", host, "--port", str(free_port()), "--model", str(tmp_path / "none.gguf")]
    environment = {**os.environ, KEYS_VARIABLE: " , "}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USER_ERROR
    assert KEYS_VARIABLE in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run([*command, "--api-key", "k"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "none.gguf: no such model" in done.stderr


def test_keys_that_cannot_be_read(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("# none\n \n")
    binary.write_bytes(b"\xff\xfe\x00")
    for given, file in ((["a", " "], None), ([], empty), ([], binary), ([], tmp_path), ([], tmp_path / "none")):
        with pytest.raises(UserError, match="key"):
            read_keys(given, file)
    keys = read_keys(["a b", "\udcff"], None)
    assert is_known(b"a b", keys)
    assert is_known(b"\xff", keys)
    assert not is_known(b"a", keys)
    assert not is_known(b"", read_keys([], None))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9999", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("192.0.2.7:80", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:8080", 403),
        ("127.0.0.1:80@evil.example", 403),
        ("x/#@evil.example", 403),
        ("evil.example:127.0.0.1", 403),
        ("llm.example.org", 403),
        ("", 403),
    ],
)
def test_a_name_made_to_resolve_to_this_machine_is_refused(server: int, host: str, status: int) -> None:
    for path, body in (("/health", None), ("/v1/models", None), (TEXT, PLAIN)):
        got, answer = ask(server, path, body, Host=host)
        assert got == status
        assert status == 200 or "--allow-host" in answer["error"]["message"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", PAGE, ""])
def test_web_pages_may_not_ask(server: int, origin: str) -> None:
    """Not even by what a browser sends without asking first: a form's or a script's text/plain."""
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        answer = asked(server, TEXT, PLAIN, Origin=origin, Content_Type=kind).getresponse()
        assert answer.status == 403
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert ask(server, TEXT, PLAIN, Content_Type="text/plain")[0] == 415


def test_a_web_page_that_is_named_may_ask(keyed: int) -> None:
    allowed = asked(keyed, "/v1/models", Origin=PAGE, Host="llm.example.org", Authorization="Bearer first-key")
    answer = allowed.getresponse()
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    preflight = http.client.HTTPConnection("127.0.0.1", keyed, timeout=60)
    for origin, status in ((PAGE, 200), ("http://evil.example", 400)):
        wants = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight.request("OPTIONS", TEXT, headers={"Origin": origin, **wants})
        answer = preflight.getresponse()
        answer.read()
        assert answer.status == status
        assert ("access-control-allow-origin" in answer.headers) == (status == 200)
