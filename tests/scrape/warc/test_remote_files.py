"""Web archives over the network: servers that break off, know no ranges, are slow, or are gone."""

import gzip
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.scrape.warc.remote_files import NetworkLimits, RemoteFile
from tests.helpers.large_archive import ARCHIVE, NOISE, source
from tests.helpers.scraping import members, page, pages, response, rows, scrape, url


class Handler(BaseHTTPRequestHandler):
    """Serves `files`; `trouble` is asked before each answer and may do something else."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        shared = self.server.shared
        shared["asked"].append((self.command, self.path, self.headers.get("Range"), self.headers.get("User-Agent")))
        content = shared["files"].get(self.path.partition("?")[0])
        if content is None:
            self.send_error(404)
            return
        cut = shared["trouble"](self) if self.command == "GET" else None
        if cut == "answered":
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "") if shared["ranges"] else None
        start, end = (int(wanted[1]), int(wanted[2] or len(content) - 1) + 1) if wanted else (0, len(content))
        part = content[start:end]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        if shared["ranges"]:
            self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part[:cut])
            if cut is not None:
                self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(files: dict[str, bytes], ranges: bool = True, trouble: Any = lambda request: None) -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.shared = {"files": files, "ranges": ranges, "trouble": trouble, "asked": []}  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.shared  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


pytestmark = pytest.mark.usefixtures("one_worker")


class Broken:
    """Breaks off the first `times` answers after `after` bytes."""

    def __init__(self, times: int, after: int = 100_000) -> None:
        self.times, self.after = times, after

    def __call__(self, request: Handler) -> int | None:
        self.times -= 1
        return self.after if self.times >= 0 else None


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("times", [0, 2])
def test_archives_over_http(tmp_path: Path, ranges: bool, times: int) -> None:
    with served({"/x.warc.gz": ARCHIVE}, ranges, Broken(times)) as (base, shared):
        metrics, outputs = scrape(tmp_path, source(f"{base}/x.warc.gz"))
    assert metrics["sources"]["a"]["outcomes"] == {"saved": 40}
    assert {name: body[3:] for name, (_, body) in pages(outputs, "a").items()} == {
        url(n): b for n, b in enumerate(NOISE)
    }
    assert all(agent.startswith("Textmill ") for _, _, _, agent in shared["asked"])


def breaks_off_at_a_million(request: Handler) -> int | None:
    start = int((request.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
    return max(0, 1_000_000 - start) if request.path.startswith("/x.warc.gz") else None


def test_what_came_before_the_connection_was_lost_for_good_is_kept(tmp_path: Path) -> None:
    with served({"/x.warc.gz": ARCHIVE, "/y.warc.gz": members(response(url("y"), page("y")))}) as (base, shared):
        shared["trouble"] = breaks_off_at_a_million
        metrics, outputs = scrape(tmp_path, source(f"{base}/x.warc.gz", f"{base}/y.warc.gz", f"{base}/gone.warc.gz"))
    found = metrics["sources"]["a"]["outcomes"]
    assert found["saved"] > 15
    assert url("y") in pages(outputs, "a")
    assert found["unreachable"] == 2
    assert sum(found.values()) - found["saved"] == len(rows(outputs, "removed"))


def test_signatures_and_passwords_of_urls_are_told_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served({"/x.warc.gz": ARCHIVE}) as (base, shared):
        shared["trouble"] = breaks_off_at_a_million
        address = base.replace("://", "://me:passw0rd@")
        paths = (f"{base}/x.warc.gz?Signature=s1gned", f"{address}/gone.warc.gz")
        metrics, outputs = scrape(tmp_path, source(*paths))
        assert any("s1gned" in path for _, path, _, _ in shared["asked"])
    assert metrics["sources"]["a"]["outcomes"]["unreachable"] == 2
    written = b"".join(path.read_bytes() for path in outputs.root.rglob("*") if path.is_file())
    said = caplog.text + str(metrics) + str(rows(outputs, "removed"))
    assert "trying again" in said
    for secret in ("s1gned", "passw0rd"):
        assert secret not in said
        assert secret.encode() not in written


def test_reading_stops_with_the_last_page_wanted(tmp_path: Path) -> None:
    large = members(*(response(url(n), random.Random(n).randbytes(250_000).hex().encode()) for n in range(40)))
    with served({"/x.warc.gz": large}) as (base, shared):
        metrics, _ = scrape(tmp_path, source(f"{base}/x.warc.gz", max_pages=2))
    assert metrics["pages"] == 2
    asked = [ranged for method, _, ranged, _ in shared["asked"] if method == "GET"]
    assert asked[0].startswith("bytes=0-")
    assert len(asked) <= 2  # a block of 8 MiB out of 10


def test_bounds_of_size_and_time(tmp_path: Path) -> None:
    with served({"/x.warc.gz": ARCHIVE}) as (base, _):
        metrics, _ = scrape(tmp_path / "1", source(f"{base}/x.warc.gz", max_file_bytes=500_000))
        assert metrics["sources"]["a"]["outcomes"]["file_too_large"] == 1
        assert 0 < metrics["pages"] < 40

    given_up = threading.Event()

    def sleep(_: Handler) -> str:
        given_up.wait()
        return "answered"

    with served({"/x.warc.gz": ARCHIVE}, trouble=sleep) as (base, _):
        try:
            with pytest.raises(UserError, match="unreachable"):
                scrape(tmp_path / "2", source(f"{base}/x.warc.gz", timeout=0.2, retries=1))
        finally:
            given_up.set()


def test_lists_over_http(tmp_path: Path) -> None:
    names = b"crawl-data/1.warc.gz\ncrawl-data/2.warc.gz\n"
    found = {f"/crawl-data/{n}.warc.gz": members(response(url(n), page(n))) for n in (1, 2)}
    with served({"/warc.paths.gz": gzip.compress(names), **found}) as (base, _):
        _, outputs = scrape(tmp_path, source(f"{base}/warc.paths.gz", prefix=base + "/"))
        assert set(pages(outputs, "a")) == {url(1), url(2)}
        with pytest.raises(UserError, match="list of paths"):
            scrape(tmp_path, source(f"{base}/nothing.paths.gz"))


def test_globs_of_other_file_systems(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for n in range(3):
        memory.pipe(f"/bucket/{n}.warc.gz", members(response(url(n), page(n))))
    _, outputs = scrape(tmp_path, source("memory://bucket/[12].warc.gz"))
    assert set(pages(outputs, "a")) == {url(1), url(2)}
    with pytest.raises(UserError, match="matches no file"):
        scrape(tmp_path, source("memory://bucket/*.wet.gz"))


def test_a_remote_file_is_its_bytes(tmp_path: Path) -> None:
    with served({"/x": ARCHIVE}, trouble=Broken(1)) as (base, _):
        file = RemoteFile(f"{base}/x", NetworkLimits(5, 2, 0.01, 1 << 30))
        parts = []
        while block := file.read(70_000):
            parts.append(block)
        file.close()
    assert b"".join(parts) == ARCHIVE
