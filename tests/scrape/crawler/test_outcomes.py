"""Crawling: each URL's outcome, what is asked of a site and kept of it, and sites that yield nothing."""

from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.core.errors import UserError
from tests.helpers.scraping import (
    crawl_log,
    pages,
    scrape,
    web,
)
from tests.helpers.site_server import serve


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One crawl over a site on which everything goes wrong."""
    with serve() as site:
        bad = ["/loop1", "/hop1", "/moved", "/to-private", "/flaky", "/always-500", "/huge", "/huge-chunked", "/bomb"]
        bad += ["/gzip", "/broken-gzip", "/image", "/cut", "/bytes", "/slow", "/missing", "/secret/page", "/file.zip"]
        same = ["/same?a=1&b=2", "/same?b=2&a=1", "/same?b=2&a=1#part"]
        site.pages["/"] = site.link_to(*bad, *same, "/deep1", "/denied/x", "http://elsewhere.example/", "mailto:a@b.c")
        site.pages |= {"/same": "<p>one page</p>", "/from-gzip": "<p>found</p>", "/denied/x": "no"}
        site.pages |= {"/deep1": site.link_to("/deep2"), "/deep2": site.link_to("/deep3"), "/deep3": "<p>too deep</p>"}
        source = web(site, deny=["/denied/"], depth=2, max_bytes=1_500_000, timeout=0.5, retries=2, redirects=4)
        metrics, outputs = scrape(tmp_path_factory.mktemp("site"), source)
        yield site, metrics, outputs


def test_every_url_has_the_outcome_that_it_deserves(crawled: Any) -> None:
    site, metrics, outputs = crawled
    found = {url.removeprefix(site.url): entry["outcome"] for url, entry in crawl_log(outputs).items()}
    assert found == {
        **dict.fromkeys(["/", "/target", "/flaky", "/gzip", "/from-gzip", "/bytes", "/deep1", "/deep2"], "saved"),
        **dict.fromkeys(["/denied/x", "/file.zip", "http://elsewhere.example/"], "excluded"),
        **dict.fromkeys(["/huge", "/huge-chunked", "/bomb"], "too_large"),
        **dict.fromkeys(["/moved", "/to-private", "/loop1", "/hop1", "/hop2", "/hop3", "/hop4"], "redirect"),
        "/same?a=1&b=2": "saved",
        "/loop2": "redirect_loop",
        "/hop5": "too_many_redirects",
        "/deep3": "too_deep",
        "/broken-gzip": "decode_error",
        "/image": "no_text",
        "/cut": "truncated",
        "/slow": "timeout",
        "/missing": "http_404",
        "/always-500": "http_500",
        "/secret/page": "robots",
    }
    outcomes = metrics["sources"]["site"]["outcomes"]
    assert sum(outcomes.values()) == len(found)
    assert outcomes["saved"] == metrics["pages"] == 9


def test_what_the_site_was_asked(crawled: Any) -> None:
    site, _, outputs = crawled
    log = crawl_log(outputs)
    assert site.asked["/flaky"] == log[site.url + "/flaky"]["attempts"] == 3
    assert site.asked["/always-500"] == site.asked["/slow"] == site.asked["/cut"] == 3
    assert sum(site.asked[path] for path in site.asked if path.startswith("/same")) == 1
    assert site.asked["/missing"] == site.asked["/loop1"] == site.asked["/target"] == site.asked["/robots.txt"] == 1
    assert not {"/secret/page", "/denied/x", "/file.zip", "/deep3", "/hop6"} & set(site.asked)
    assert site.sent < 60_000_000  # of 100 MB; what the socket's buffers hold included


def test_warc_keeps_what_was_sent(crawled: Any) -> None:
    site, _, outputs = crawled
    found = pages(outputs)
    saved = {url for url, entry in crawl_log(outputs).items() if entry["outcome"] == "saved"}
    assert set(found) == saved
    record, body = found[site.url + "/gzip"]
    assert record.rec_type == "response"
    assert record.http_headers.statusline == "200 OK"
    assert record.http_headers.protocol == "HTTP/1.1"
    assert record.http_headers.get_header("Content-Encoding") == "gzip"
    assert body == b"<p>gzip, and <a href='/from-gzip'>a link</a></p>"
    assert found[site.url + "/bytes"][1] == b"<p>\x81\xfe\xff\x00\x9d</p>"
    assert record.rec_headers.get_header("WARC-Date") == crawl_log(outputs)[site.url + "/gzip"]["fetched_at"]


def test_clean_reads_the_pages(crawled: Any) -> None:
    from tasks.clean.warc_reader import read_pages

    _, metrics, outputs = crawled
    found = [page for path in (outputs / "web" / "site").iterdir() for page in read_pages(path, 10**7)]
    assert len(found) == metrics["pages"]
    assert not [page.problem for page in found if page.problem]


@pytest.mark.slow
def test_the_same_limited_pages_whatever_answers_first(tmp_path: Path) -> None:
    with serve() as site:
        site.pages["/"] = site.link_to(*(f"/{n}" for n in (3, 1, 404, 2)))
        site.pages |= {f"/{n}": site.link_to(f"/{n}/b", f"/{n}/a") for n in (1, 2, 3)}
        site.pages |= {f"/{n}/{letter}": "<p>leaf</p>" for n in (1, 2, 3) for letter in "ab"}
        for concurrency in (1, 4):
            _, outputs = scrape(tmp_path / str(concurrency), web(site, max_pages=6, concurrency=concurrency))
            assert {url.removeprefix(site.url) for url in pages(outputs)} == {"/", "/1", "/2", "/3", "/3/b", "/3/a"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"robots": "User-agent: *\nDisallow: /"}, "robots.txt forbids"),
        pytest.param({"robots_status": 503}, "robots.txt: http_503, which forbids all", marks=pytest.mark.slow),
        pytest.param({"options": {"allow_private": False}}, "allow_private: true", marks=pytest.mark.slow),
        ({"options": {"allow_private": False}, "host": "localhost"}, "private_address"),
        pytest.param({"gone": True}, "connection_refused", marks=pytest.mark.slow),
        pytest.param({}, "http_404", marks=pytest.mark.slow),
    ],
)
def test_a_site_that_yields_nothing_says_why(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with serve() as site:
        site.robots = change.get("robots", site.robots)
        site.robots_status = change.get("robots_status", 200)
        source = web(site, retries=0, **change.get("options", {}))
        source["start"] = [source["start"][0].replace("127.0.0.1", change.get("host", "127.0.0.1"))]
        if not change.get("gone"):
            with pytest.raises(UserError, match=message):
                scrape(tmp_path, source)
            if "private" in message:
                assert not site.asked
            site.robots, site.robots_status, site.pages["/"] = None, 404, "<p>mended</p>"
            assert scrape(tmp_path, {**source, "allow_private": True})[0]["pages"] == 1
    if change.get("gone"):
        with pytest.raises(UserError, match=message):
            scrape(tmp_path, source)


@pytest.mark.slow
def test_pydoc_and_its_server_ends(tmp_path: Path) -> None:
    before = _processes()
    metrics, outputs = scrape(tmp_path, {"name": "docs", "kind": "pydoc", "max_pages": 40})
    found = pages(outputs, "docs")
    assert metrics["pages"] == len(found) == 40
    assert all(url.startswith("http://pydoc.localhost/") for url in found)
    assert not any(b"127.0.0.1:" in body for _, body in found.values())
    assert _processes() <= before


def _processes() -> set[int]:
    """Crawlers and documentation servers below this process, and those whose parent is gone."""
    ours = {process.pid for process in psutil.Process().children(recursive=True)}
    found = set()
    for process in psutil.process_iter(["pid", "ppid", "cmdline"]):
        words = process.info["cmdline"] or []
        mine = process.info["pid"] in ours or process.info["ppid"] == 1
        if mine and ("pydoc" in words or "tasks.scrape.crawler.crawl" in words):
            found.add(process.info["pid"])
    return found


def test_environment_of_the_user_stays_his_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.request import urlopen

    from tasks.scrape.pydoc_server import pydoc_server

    monkeypatch.setenv("SOME_TOKEN", "do-not-publish")
    with pydoc_server(tmp_path) as server, urlopen(f"{server}/os.html") as page:  # noqa: S310
        text = page.read()
    assert b"environ" in text
    assert b"do-not-publish" not in text
