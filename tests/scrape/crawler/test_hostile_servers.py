"""Whatever a server answers is the outcome of that one address: the crawl goes on, and so does its next start."""

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.clean import warc_reader
from tasks.scrape.crawler import page_parser
from tasks.scrape.crawler.crawl_process import crawl
from tasks.scrape.crawler.fetch_result import result_of_response
from tasks.scrape.crawler.frontier import Frontier
from tasks.scrape.crawler.links import Scope
from tasks.scrape.crawler.page_parser import page_outcome
from tasks.scrape.crawler.side_thread import run_in_thread
from tasks.scrape.sources import WebSource

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


def written(start: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    if start.endswith(b"503"):  # a host that asks to wait is waited for, which is no outcome of one address
        headers = [pair for pair in headers if pair[0] != b"Retry-After"]
    return b"\r\n".join([start, *(b": ".join(pair) for pair in headers), b"", body])


ANSWER = st.builds(
    written,
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


EMPTY_MEMBER = gzip.compress(b"", 1, mtime=0)
SIZE = 1_500_000
LABORIOUS = {
    "attributes": b"<a " + b" ".join(b"a%d=1" % n for n in range(SIZE // 8)) + b">x</a>",
    "links": b"".join(b"<a href=%x>" % n for n in range(SIZE // 14)),
    "links below a long base": b"<base href='/%b/'>" % (b"a" * 1800) + b"<a href=x>x" * (SIZE // 11),
    "canonical links": b"<head>" + b"<link rel=canonical href=x>" * (SIZE // 27),
    "directives": b"<meta name=robots content=x>" * (SIZE // 28),
    "empty gzip members": EMPTY_MEMBER * (SIZE // len(EMPTY_MEMBER)),
}


@pytest.mark.parametrize("kind", LABORIOUS)
def test_no_page_holds_up_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A task that only sleeps is never kept waiting while a page that takes long is read and entered."""
    monkeypatch.setattr(page_parser, "READ_S", 1.5)
    start = "http://h.example/"
    scope = Scope(WebSource(name="s", start=(start,)))
    frontier = Frontier(tmp_path / "f.sqlite")
    frontier.start([scope.start(start)])
    headers = {b"Content-Type": [b"text/html"]} | ({b"Content-Encoding": [b"gzip"]} if "gzip" in kind else {})
    response = SimpleNamespace(
        status=200, headers=headers, body=LABORIOUS[kind], protocol="HTTP/1.1", ip_address="192.0.2.1"
    )
    longest = 0.0

    async def sleep() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    async def read() -> float:
        sleeper = asyncio.create_task(sleep())
        await asyncio.sleep(0.05)
        began = time.monotonic()
        answer = await run_in_thread(result_of_response, start, response, 10_000_000, ("text/html",))
        if answer.outcome.name == "saved":
            done = await run_in_thread(page_outcome, start, answer, None, None, "2026-01-01T00:00:00Z", scope, "x", [])
            frontier.finish(frontier.level(0)[0], done.outcome, done.record, done.links, done.canonical)
        took = time.monotonic() - began
        await asyncio.sleep(0.05)
        sleeper.cancel()
        return took

    took = asyncio.run(read())
    frontier.close()
    assert longest < max(0.5, took / 2)  # in a loop that waits, as long as it took


def test_links_that_swell_are_cut_and_counted(tmp_path: Path) -> None:
    base = b"<base href='/%b/'>" % (b"a" * 1900)
    pages = {
        "/many": b"".join(b"<a href='/%d'>" % n for n in range(20_100)),
        "/long": base + b"".join(b"<a href=%x>" % n for n in range(20_000)),
        "/longer": b"<base href='/%b/'>" % (b"a" * 12_000) + b"<a href=x>x</a>" * 20_000,
        "/longest": b"<a href='/%b'>x</a>" % (b"a" * 100_000) * 3 + b"<a href='%b'>x</a>" % (b"b" * 100_000),
    }
    found = outcomes(tmp_path, {path: page(body) for path, body in pages.items()}, depth=1)
    assert {path: found[path] for path in pages} == {
        "/many": ("saved", "links left out: 100 beyond the first 20,000"),
        "/long": ("saved", found["/long"][1]),
        "/longer": (
            "saved",
            "links cannot be read: ValueError('the base of its addresses is longer than 2000 characters')",
        ),
        "/longest": ("saved", "links left out: 2 longer than 2,000 characters"),
    }
    assert "beyond the first" in found["/long"][1]
    taken = [path for path in found if path.startswith("/aaa")]
    assert sum(map(len, taken)) < 9 * len(pages["/long"])
    assert sum(path.stat().st_size for path in tmp_path.glob("s.sqlite*")) < 60 * sum(map(len, pages.values()))


HEADERS = (
    b"X-Powered By: x",
    "\u2018access-control-allow-origin\u2019: *".encode(),
    b"<script>: x",
    b": no name",
    b"no colon",
    b"\xff\xfe: \x00",
)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("first", [True, False])
def test_a_header_that_is_none_costs_itself(tmp_path: Path, header: bytes, first: bool) -> None:
    """Twisted loses the page (scrapy/scrapy#7292, #4774); browsers pass over the line."""
    body = b"<p>A page that any browser shows.</p>"
    same = b"Content-Length: %d" % len(body)
    lines = [header, b" goes on", same, b"Content-Type: text/html", same]
    lines = lines if first else [*lines[2:], *lines[:2]]
    found = outcomes(tmp_path, {"/page": b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body})
    assert found["/page"][0] == "saved", found["/page"]


def test_a_header_that_is_oddly_written(tmp_path: Path) -> None:
    before = page(b"<p>x").replace(b"OK\r\n", b"OK\r\n \t goes on: x\r\n")
    space = page(b"<p>y").replace(b"Content-Type:", b"Content-Type :")
    found = outcomes(tmp_path, {"/before": before, "/space": space})
    assert (found["/before"][0], found["/space"][0]) == ("saved", "saved")


def test_headers_without_end(tmp_path: Path) -> None:
    many = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000
    found = outcomes(
        tmp_path,
        {
            "/many": many,
            "/interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
            "/line": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
            "/large": page(b"x").replace(b"\r\n\r\n", b"\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"),
        },
    )
    assert found["/many"] == found["/interim"] == ("too_large", "more than 65536 bytes of headers")
    assert found["/line"][0] == "connection_failed"
    assert found["/large"][0] == "saved"
    assert len(list(warc_reader.read_pages(next((tmp_path / "pages").iterdir()), 10**6))) == 4


LOOPBACK = (
    "localhost",
    "LOCALHOST",
    "127.1",
    "0x7f.1",
    "2130706433",
    "0",
    "127.0.0.2",
    "[::ffff:127.0.0.1]",
    "[::]",
    "[64:ff9b::7f00:1]",
)


def test_no_spelling_of_a_private_address_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    found: dict[str, tuple[str, str]] = {}
    with raw_server({"/robots.txt": page(b"")}) as url:
        port = url.rpartition(":")[2]
        links = b"".join(
            b'<a href="http://%b:%b/">x</a><a href="/%d">y</a>' % (host.encode(), port.encode(), n)
            for n, host in enumerate(LOOPBACK)
        )
        found = outcomes(
            tmp_path,
            {
                "/links": page(links),
                **{f"/{n}": redirect(f"http://{host}:{port}/".encode()) for n, host in enumerate(LOOPBACK)},
            },
            allow=["."],
        )
    elsewhere = {path: outcome for path, (outcome, _) in found.items() if path.startswith("http")}
    assert len(elsewhere) >= len(LOOPBACK) - 1  # one host is written in two ways
    assert set(elsewhere.values()) == {"private_address"}
