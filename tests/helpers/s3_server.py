"""As much of S3 as reading takes, on loopback: GetObject with ranges, HeadObject, ListObjectsV2 in pages of two."""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 2
ERRORS = {"NoSuchKey": 404, "NoSuchBucket": 404, "AccessDenied": 403, "SlowDown": 503}


class Store:
    """`buckets`: name → key → bytes. `private`: buckets that want credentials.

    `trouble` is asked before each object is sent: None, the name of an error, or the number of bytes to break off after.
    `requests`: (method, path with query, headers).
    """

    def __init__(self, **buckets: dict[str, bytes]) -> None:
        self.buckets = buckets
        self.private: set[str] = set()
        self.trouble: Callable[[], str | int | None] = lambda: None
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.endpoint = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        store: Store = self.server.store
        store.requests.append((self.command, self.path, dict(self.headers)))
        bucket, _, key = unquote(urlsplit(self.path).path).removeprefix("/").partition("/")
        if bucket not in store.buckets:
            self._fail("NoSuchBucket")
        elif bucket in store.private and "Authorization" not in self.headers:
            self._fail("AccessDenied")
        elif not key:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            self._list(store.buckets[bucket], **query)
        elif key not in store.buckets[bucket]:
            self._fail("NoSuchKey")
        else:
            self._object(store.buckets[bucket][key], store.trouble() if self.command == "GET" else None)

    def _object(self, content: bytes, trouble: str | int | None) -> None:
        if isinstance(trouble, str):
            self._fail(trouble)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start, end = (int(wanted[1]), int(wanted[2] or len(content) - 1) + 1) if wanted else (0, len(content))
        part = content[start:end]
        headers = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"} if wanted else {}
        headers["ETag"] = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        self._send(206 if wanted else 200, part, headers, cut=trouble)

    def _list(self, objects: dict[str, bytes], prefix: str = "", delimiter: str = "", **query: str) -> None:
        after = query.get("continuation-token", "")
        found: dict[str, str] = {}  # what stands in the listing → its element
        for key in sorted(key for key in objects if key.startswith(prefix)):
            head, sign, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if sign:
                folder = prefix + head + sign
                found[folder] = f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            else:
                about = f"<Key>{escape(key)}</Key><Size>{len(objects[key])}</Size>"
                found[key] = f"<Contents>{about}<LastModified>2025-03-04T05:06:07.000Z</LastModified></Contents>"
        left = [name for name in found if name > after]
        more = f"<NextContinuationToken>{escape(left[PAGE - 1])}</NextContinuationToken>" if left[PAGE:] else ""
        xml = "".join(found[name] for name in left[:PAGE])
        whole = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{xml}"
        self._send(200, f"<ListBucketResult>{whole}</ListBucketResult>".encode())

    def _fail(self, code: str) -> None:
        self._send(ERRORS[code], f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        usual = {"Content-Length": str(len(body)), "Last-Modified": "Tue, 04 Mar 2025 05:06:07 GMT"}
        for name, value in {**usual, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
            self.close_connection = cut is not None

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(store: Store) -> Iterator[Store]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.store = store  # type: ignore[attr-defined]
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
