"""Whatever a server answers is the outcome of that one address: the crawl goes on, and so does its next start."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.web.site import crawl
from tasks.web.sources import WebSource

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"


@contextmanager
def raw_server(answers: dict[str, bytes]) -> Iterator[str]:
    """A server that sends for a path the bytes given, whatever they are, and closes the connection."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                path = connection.recv(1 << 16).split(b" ")[1].decode("latin-1")
                connection.sendall(
                    answers.get(path, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                )
            except (OSError, IndexError):
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def page(body: bytes) -> bytes:
    return OK % len(body) + body


def outcomes(folder: Path, bad: dict[str, bytes], robots: bytes = b"", **options: object) -> dict[str, tuple[str, str]]:
    """Crawl a site whose start links to the `bad` pages and to a good one before and after; outcome and detail by path."""
    paths = ["/first", *bad, "/last"]
    links = b"".join(b'<a href="%s">x</a>' % path.encode() for path in paths)
    good = {path: page(b"<p>a good page</p>") for path in ("/first", "/last")}
    with raw_server({"/": page(links), "/robots.txt": page(robots), **good, **bad}) as url:
        source = WebSource.model_validate(
            {
                "name": "s",
                "start": [url + "/"],
                "allow_private": True,
                "delay": 0,
                "retries": 0,
                "timeout": 10,
                **options,
            }
        )
        crawl(source, folder, folder / "pages", folder / "log.jsonl")
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    found = {entry["url"].removeprefix(url): (entry["outcome"], entry.get("detail", "")) for entry in entries}
    assert {found[path][0] for path in ("/", "/first", "/last")} == {"saved"}
    assert all(found[path][0] for path in bad)
    return found


def redirect(target: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: " + target + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


KINDS = {
    "/port": (redirect(b"http://h.example:99999/"), "redirect"),
    "/name-of-a-port": (redirect(b"http://h.example:abc/"), "redirect"),
    "/half-an-address": (redirect(b"http://[x/"), "http_302"),
    "/status": (
        b"HTTP/1.1 99999999999999999999 X\r\nContent-Type: text/html\r\nContent-Length: 1\r\n\r\nx",
        "bad_status",
    ),
    "/negative": (b"HTTP/1.1 -1 X\r\nContent-Type: text/html\r\nContent-Length: 1\r\n\r\nx", ""),
    "/nothing": (b"", ""),
    "/no-http": (b"\x00\xff\xfe SSH-2.0\r\n", ""),
    "/length": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: -5\r\n\r\nx", ""),
    "/lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\nContent-Type: text/html\r\n\r\nxxxxxx",
        "",
    ),
    "/chunks": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc", ""),
    "/charset": (page(b"<p>x").replace(b"text/html", b"text/html; charset=\xff\xfe\x00"), ""),
    "/refresh": (page(b'<meta http-equiv=refresh content="0; url=http://[x/"><a href="http://[::1">y</a><p>text'), ""),
    "/base": (page(b'<base href="http://[x/"><a href="z">y</a><p>text'), ""),
    "/encoding": (page(b"<p>x").replace(b"text/html", b"text/html\r\nContent-Encoding: gzip"), "decode_error"),
}


def test_known_kinds(tmp_path: Path) -> None:
    found = outcomes(tmp_path, {path: answer for path, (answer, _) in KINDS.items()})
    assert {path: found[path][0] for path, (_, name) in KINDS.items() if name} == {
        path: name for path, (_, name) in KINDS.items() if name
    }
    assert "is no URL" in found["/port"][1]


@pytest.mark.parametrize("sitemap", [b"http://[x/sitemap.xml", b"http://h.example:99999/s.xml", b"\xff\xfe", b"//:0"])
def test_a_sitemap_that_is_none(tmp_path: Path, sitemap: bytes) -> None:
    outcomes(tmp_path, {}, b"User-agent: *\nSitemap: " + sitemap + b"\n", sitemaps=True)


FIELD = st.binary(max_size=30).map(lambda value: value.replace(b"\r\n", b""))
HEADER = st.tuples(
    st.sampled_from(
        [
            b"Location",
            b"Content-Type",
            b"Content-Encoding",
            b"Content-Length",
            b"Link",
            b"Retry-After",
            b"X-Robots-Tag",
            b"Date",
        ]
    )
    | FIELD,
    FIELD
    | st.sampled_from([b"text/html", b"gzip", b"99999999999999999999", b"<a>; rel=canonical", b"http://[", b"noindex"]),
)
ANSWER = st.builds(
    lambda start, headers, body: b"\r\n".join([start, *(b": ".join(pair) for pair in headers), b"", body]),
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 301 X", b"HTTP/1.0 503", b"HTTP/9.9 200"]) | st.binary(max_size=40),
    st.lists(HEADER, max_size=6),
    st.binary(max_size=200) | st.just(b"<a href='//[x'>a</a><p>words and words"),
)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(ANSWER, min_size=30, max_size=60), st.binary(max_size=200))
def test_arbitrary_bytes(answers: list[bytes], robots: bytes) -> None:
    with TemporaryDirectory() as folder:
        outcomes(
            Path(folder),
            {f"/{n}": answer for n, answer in enumerate(answers)},
            b"# \n" + robots.replace(b"isallow", b""),
        )
