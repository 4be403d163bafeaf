"""Secrets in parameters are refused wherever they are given, before anything is written or shown; what is advised works."""

import base64
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flows.param_overrides import parse_override
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.params import read_yaml
from tasks.core.secret_params import refuse_secrets, secret_in
from tasks.scrape.warc.remote_files import NetworkLimits, open_stream
from tests.helpers.running import flow, set_params

TOKEN = "hf_" + "aB3dE6gH9jK2mN5pQ8sT"
SECRETS = [
    "http://alice:hunter2@host/x",
    "HTTPS://hunter2@host",
    "s3://AKEY:hunter/2@bucket/x",
    "https://host:hun/ter2@x/",
    "https://host/x?a=1&X-Amz-Signature=hunter2",
    "https://host/x?X%2DAmz%2DSecurity%2DToken=hunter2",
    "https://host/x?sv=2024&sig=hun%2Fter2",
    "https://host/#access_token=hunter2",
    "https://host?apikey=hunter2",
    "the list https://host/x?token=hunter2 of mine",
    TOKEN,
]
PLAIN = [
    "https://host/@user/page?page=2&key=3&author=me",
    "https://host:8080/a:b@c",
    "http://[::1]:80/@x",
    r"https?://host/.*[?&]token=[^&]+",
    "you@example.org",
    "hf://datasets/a@main/x",
    "sk-learn-and-what-belongs-to-it",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_it_is_refused_at_any_depth_without_being_told(secret: str) -> None:
    values = [{"x": secret}, {"x": {"y": [{"z": secret}]}}, {"x": [1, [None, secret]]}, {"x": {secret: 1}}]
    for blocks in values:
        with pytest.raises(UserError, match=r"params\.yaml: x[^ ]*: .*use the environment: [A-Z]") as told:
            refuse_secrets(blocks, "params.yaml: ")
        assert "hunter2" not in str(told.value)
        assert secret not in str(told.value)
    with pytest.raises(UserError) as told:
        parse_override(f"scrape.sources=[{{start: [{secret!r}]}}]")
    assert "hunter2" not in str(told.value)
    assert "scrape.sources" in str(told.value)


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_none_passes(text: str) -> None:
    assert secret_in(text) == ("", "")


def test_the_variable_is_that_of_the_service() -> None:
    assert "AWS_SECRET_ACCESS_KEY" in secret_in("https://b.example.org/x?X-Amz-Signature=1")[1]
    assert secret_in(TOKEN)[1] == "HF_TOKEN"
    assert "NETRC" in secret_in("https://a:b@host")[1]


def test_a_file_that_is_no_yaml_is_told_of_without_them(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("words: {text: http://alice:hunter2@host/x: ]\n")
    with pytest.raises(UserError) as told:
        read_yaml(tmp_path / "params.yaml")
    assert "hunter2" not in str(told.value)


def test_nothing_is_written_by_a_stage_or_the_flow(toy: Path) -> None:
    set_params(toy, "left", text="http://alice:hunter2@host/x")
    done = [
        subprocess.run([sys.executable, "-m", "tasks.words"], cwd=toy, capture_output=True, text=True, check=False),
        flow(toy),
    ]
    set_params(toy, "left")
    done.append(flow(toy, "--param", "left.text=http://alice:hunter2@host/x"))
    for each in done:
        assert each.returncode == EXIT_USER_ERROR, each.stderr
        assert "left.text: a login in an address stands here" in each.stderr
        assert "hunter2" not in each.stdout + each.stderr
    files = [path for path in toy.rglob("*") if path.is_file()]
    assert [path for path in files if b"hunter2" in path.read_bytes()] == []


@pytest.mark.parametrize("own", [None, frozenset({"127.0.0.1"})])
def test_the_login_of_an_archive_comes_from_the_file_that_netrc_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: frozenset[str] | None
) -> None:
    seen: list[str | None] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"warc")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password hunter2\n")
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        with open_stream(
            f"http://127.0.0.1:{server.server_port}/x.warc", NetworkLimits(10, 0, 0, 1 << 20, own)
        ) as stream:
            assert stream.read(10) == b"warc"
        server.shutdown()
    assert set(seen) == {"Basic " + base64.b64encode(b"alice:hunter2").decode()}


def test_the_password_of_mlflows_server_is_not_shown(toy: Path) -> None:
    place = "http://alice:hunter2@127.0.0.1:1"
    done = subprocess.run(
        [sys.executable, "-m", "tasks.words"],
        cwd=toy,
        env={**os.environ, "MLFLOW_TRACKING_URI": place},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "not tracked in MLflow" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert str(UserError(f"MLFLOW_TRACKING_URI={place}")) == "MLFLOW_TRACKING_URI=http://***@127.0.0.1:1"
