"""As much of the Hugging Face hub's interface as reading one data set, `o/n`, and one model, `o/m`, takes; on loopback."""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef" * 2 + "01234567"
CARD = b"---\nlicense: cc-by-4.0\n---\n# A data set\n"
FILES = {
    "README.md": CARD,
    "data/train.jsonl": b"".join(json.dumps({"text": f"text {n}"}).encode() + b"\n" for n in range(50)),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _files(self) -> dict[str, bytes]:
        return self.server.files  # type: ignore[attr-defined, no-any-return]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        model: dict[str, bytes] = self.server.model  # type: ignore[attr-defined]
        if re.fullmatch(r"/api/datasets/o/n(/revision/[^/]+)?", path):
            about = {"id": "o/n", "sha": COMMIT, "private": False, "gated": False, "cardData": {"license": "cc-by-4.0"}}
            self._send(
                json.dumps({**about, "tags": [], "siblings": [{"rfilename": name} for name in self._files]}).encode()
            )
        elif tree := re.fullmatch(r"/api/datasets/o/n/tree/[^/]+/?(.*)", path):
            self._send(json.dumps(self._tree(tree[1])).encode())
        elif (file := re.fullmatch(r"/datasets/o/n/resolve/(main|" + COMMIT + r")/(.*)", path)) and file[
            2
        ] in self._files:
            self._file(self._files[file[2]])
        elif model and self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":  # type: ignore[attr-defined]
            self._send(b"{}", 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to o/m is restricted."})
        elif re.fullmatch(r"/api/models/o/m(/revision/[^/]+)?", path):
            about = {"id": "o/m", "sha": COMMIT, "private": False, "gated": False, "tags": []}
            self._send(json.dumps({**about, "siblings": [{"rfilename": name} for name in model]}).encode())
        elif re.fullmatch(r"/api/models/o/m/tree/[^/]+/?", path):
            entries = [{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in model.items()]
            self._send(json.dumps(entries).encode())
        elif (file := re.fullmatch(r"/o/m/resolve/(?:main|" + COMMIT + r")/(.*)", path)) and file[1] in model:
            self._file(model[file[1]])
        else:
            code = "EntryNotFound" if "/o/n/resolve/" in path else "RepoNotFound"
            self._send(b"{}", 404, {"X-Error-Code": code})

    def _tree(self, folder: str) -> list[dict[str, object]]:
        if not folder:
            return [{"type": "directory", "path": "data", "oid": "0"}, self._entry("README.md")]
        return [self._entry(name) for name in self._files if name.startswith(folder + "/")]

    def _entry(self, name: str) -> dict[str, object]:
        return {"type": "file", "path": name, "size": len(self._files[name]), "oid": "0"}

    def _file(self, content: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        if not wanted:
            self._send(content, 200, {"ETag": tag, "Accept-Ranges": "bytes"})
            return
        part = content[int(wanted[1]) : int(wanted[2]) + 1]
        span = f"bytes {wanted[1]}-{int(wanted[1]) + len(part) - 1}/{len(content)}"
        self._send(part, 206, {"ETag": tag, "Content-Range": span})

    def _send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.server.sent[self.path.rpartition("/")[2]] += len(content)  # type: ignore[attr-defined]
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(
    model: dict[str, bytes] | None = None,
    token: str = "",
    files: dict[str, bytes] = FILES,
    asked: Counter[str] | None = None,
) -> Iterator[str]:
    """The hub's address. `model`: the files of `o/m`, for which one asks with `token`; `files`: those of `o/n`; `asked` counts
    the bytes that were sent of each.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.model, server.token, server.files = model or {}, token, files  # type: ignore[attr-defined]
    server.sent = Counter() if asked is None else asked  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
