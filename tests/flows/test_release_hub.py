"""A release goes to a hub whole, private, with its card; what the hub refuses is one line, without the token."""

import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.core.paths import write_json
from tests.helpers.checkout import ROOT

TOKEN = "hf_of_the_tests"
PUSH = """import sys; from pathlib import Path
from flows.release.hub import push; from tasks.core.errors import UserError
try: print(push(Path(sys.argv[1]), "o/m", True))
except UserError as error: print("REFUSED", error)"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as a commit of small files takes."""

    protocol_version = "HTTP/1.1"
    taken: dict[str, bytes]
    asked: list[Any]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        where = f"http://127.0.0.1:{self.server.server_address[1]}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send({"error": "Invalid credentials"}, 401)
        if self.path == "/api/repos/create":
            self.asked.append(json.loads(content))
            return self._send({"url": f"{where}/o/m", "name": "o/m"})
        if self.path.startswith("/api/models/o/m/preupload/"):
            files = json.loads(content)["files"]
            answer = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return self._send({"files": answer})
        if self.path.startswith("/api/models/o/m/commit/"):
            for line in content.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.taken[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self._send({"commitUrl": f"{where}/o/m/commit/{'0' * 40}", "commitOid": "0" * 40})
        return self._send({"valid": True, "warnings": []})  # the header of a card

    def _send(self, answer: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, type[Hub]]]:
    handler = type("OneHub", (Hub,), {"taken": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()


def release(folder: Path) -> Path:
    for name, content in (
        ("model/config.json", "{}"),
        ("model/model.safetensors", "weights"),
        ("gguf/model.gguf", "GGUF"),
        ("README.md", "---\ntags: [textmill]\n---\n# a card\n"),
        ("params.yaml", "scrape: {}"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    write_json(folder / "release.json", {"name": "textmill"})
    return folder


def push(folder: Path, address: str, home: Path, token: str = TOKEN) -> str:
    environment = {
        "HF_ENDPOINT": address,
        "HF_TOKEN": token,
        "HF_HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
    }
    done = subprocess.run(
        [sys.executable, "-c", PUSH, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert token not in done.stdout + done.stderr
    return done.stdout


def test_all_of_it_goes_and_nothing_else(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    address, handler = hub
    assert re.search(rf"{address}/o/m", push(release(tmp_path / "3"), address, tmp_path))
    assert handler.taken.keys() == {"config.json", "model.safetensors", "gguf/model.gguf", "README.md"}
    assert handler.taken["model.safetensors"] == b"weights"
    assert handler.taken["README.md"].endswith(b"# a card\n")
    assert handler.asked[0]["visibility"] == "private"


def test_a_hub_that_refuses_or_is_not_there(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    folder = release(tmp_path / "3")
    said = push(folder, hub[0], tmp_path, "hf_of_somebody_else")
    assert said.startswith("REFUSED o/m: the hub did not take the release")
    assert "HF_TOKEN" in said
    assert push(folder, "http://127.0.0.1:1", tmp_path).startswith("REFUSED o/m: the hub did not take the release")
    (folder / "release.json").unlink()
    assert "this version is not on this machine" in push(folder, hub[0], tmp_path)
