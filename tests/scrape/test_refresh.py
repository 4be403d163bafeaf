"""A refresh asks for what has changed: what has not keeps its record, its date and its place, byte for byte."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from tasks.core.paths import Outputs
from tasks.scrape import pydoc_server
from tasks.scrape.sources import PydocSource
from tests.helpers.scraping import crawl_log, files, outcomes, pages, scrape, web
from tests.helpers.site_server import Reply, Site, serve

ETAG, MODIFIED = '"1-a"', "Wed, 21 Oct 2015 07:28:00 GMT"


def tree(outputs: Outputs) -> dict[str, str]:
    """Path → hash of everything that scrape wrote."""
    found = [path for path in outputs.root.rglob("*") if path.is_file()]
    return {str(path.relative_to(outputs.root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def date(outputs: Outputs, url: str) -> str:
    return str(pages(outputs)[url][0].rec_headers.get_header("WARC-Date"))


def backdate(outputs: Outputs) -> None:
    """As if the crawl had been years ago: only what is kept has such a date."""
    for path in (outputs.root / "web").rglob("*.warc.gz"):
        members = [
            gzip.compress(b"WARC/1.1" + part.replace(b"WARC-Date: 20", b"WARC-Date: 19"), mtime=0)
            for part in gzip.decompress(path.read_bytes()).split(b"WARC/1.1")[1:]
        ]
        path.write_bytes(b"".join(members))
    for path in (outputs.root / "crawl").glob("*.jsonl"):
        path.write_text(path.read_text().replace('"fetched_at": "20', '"fetched_at": "19'))


def conditional(site: Site, path: str, body: bytes, **validator: str) -> None:
    """A page whose server knows conditional requests, as RFC 9110 has them."""

    def reply(_: int) -> Reply:
        asked = site.requests[-1][2]
        given = {"ETag": "If-None-Match", "Last_Modified": "If-Modified-Since"}
        same = any(asked.get(given[name]) == value for name, value in validator.items())
        return (304, validator, b"") if same else (200, validator, body)

    site.replies[path] = reply


def small_site(site: Site) -> None:
    site.pages["/"] = site.link_to("/plain", "/tagged", "/dated", "/gone", "/hidden", "/moved", "/missing")
    site.pages["/plain"] = "<p>without any validator</p>"
    conditional(site, "/tagged", b"<p>by its tag</p><a href='/behind'>more</a>", ETag=ETAG)
    conditional(site, "/dated", b"<p>by its date</p>", Last_Modified=MODIFIED)
    site.pages["/behind"] = "<p>behind the tagged one</p>"
    site.pages["/gone"] = "<p>for now</p>"
    site.pages["/hidden"] = "<meta name=robots content=noindex><p>not to be kept</p>"


def test_a_refresh_that_finds_nothing_new_gives_the_same_bytes(tmp_path: Path) -> None:
    with serve() as site:
        small_site(site)
        metrics, first = scrape(tmp_path / "first", web(site))
        backdate(first)
        asked = len(site.requests)
        again, second = scrape(tmp_path / "second", web(site), before=first.root)
        sent = {path: headers for _, path, headers in site.requests[asked:]}
    assert again == metrics
    assert tree(second) == tree(first)
    assert sent["/tagged"]["If-None-Match"] == ETAG
    assert sent["/dated"]["If-Modified-Since"] == MODIFIED
    assert "If-None-Match" not in sent["/plain"]
    assert set(sent) >= {"/behind", "/missing", "/target"}


def test_clocks_and_tokens_are_no_change(tmp_path: Path) -> None:
    with serve() as site:
        site.pages["/"] = site.link_to("/clock", "/news")
        site.replies["/clock"] = lambda n: (200, {}, f"<p>the same text, token {n:08x}</p>".encode())
        site.replies["/news"] = lambda n: (200, {}, f"<p>text number {n}, token {n:08x}</p>".encode())
        source = web(site, ignore_changes=["token [0-9a-f]{8}"])
        _, first = scrape(tmp_path / "first", source)
        backdate(first)
        _, second = scrape(tmp_path / "second", source, before=first.root)
        assert date(second, site.url + "/clock") == date(first, site.url + "/clock")
        assert pages(second)[site.url + "/clock"][1] == pages(first)[site.url + "/clock"][1]
        assert date(second, site.url + "/news") > date(first, site.url + "/news")


def test_where_pydoc_objects_lie_in_memory_is_no_change() -> None:
    """As two servers showed `collections.abc` and `ctypes`."""
    (pattern,) = pydoc_server.as_web_source(PydocSource(name="docs")).ignore_changes
    shown = "default=&lt;object object at {}&gt;) <b>pythonapi</b> = &lt;PyDLL 'None', handle {}&gt; mode 0x1ff"
    one, other = (shown.format(f"0x7ff5117a4b{n:02x}", f"7ff5121d12{n:02x}") for n in (8, 9))
    assert re.sub(pattern, "", one) == re.sub(pattern, "", other)
    assert "0x1ff" in re.sub(pattern, "", one)


def test_what_changed_is_taken_and_the_rest_stays(tmp_path: Path) -> None:
    with serve() as site:
        small_site(site)
        _, first = scrape(tmp_path / "first", web(site))
        backdate(first)
        conditional(site, "/tagged", b"<p>another text</p><a href='/new'>more</a>", ETag='"2-b"')
        site.pages["/new"] = "<p>new</p>"
        del site.pages["/gone"]
        site.replies["/dated"] = lambda _: (304, {"X_Robots_Tag": "noindex"}, b"")
        _, second = scrape(tmp_path / "second", web(site), before=first.root)
        before, after = outcomes(site, first), outcomes(site, second)
        assert after == {key: value for key, value in before.items() if key != "/behind"} | {
            "/new": "saved",
            "/gone": "http_404",
            "/dated": "noindex",
        }
        was, now = pages(first), pages(second)
        assert now[site.url + "/tagged"][1].startswith(b"<p>another text")
        assert date(second, site.url + "/tagged").startswith("20")
        assert date(second, site.url + "/plain") == date(first, site.url + "/plain")
        assert [url for url in now if url in was] == [url for url in was if url in now]
        assert crawl_log(second)[site.url + "/missing"] == crawl_log(first)[site.url + "/missing"]
        assert crawl_log(second)[site.url + "/gone"]["status"] == 404


def test_what_does_not_answer_at_the_moment_is_not_gone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serve() as site:
        small_site(site)
        _, first = scrape(tmp_path / "first", web(site))
        backdate(first)
        for path in ("/tagged", "/dated", "/moved", "/missing"):
            site.replies[path] = lambda _: (503, {}, b"busy")
        _, second = scrape(tmp_path / "second", web(site, retries=0, max_wait=60), before=first.root)
        assert tree(second) == tree(first)
        assert "2 pages did not answer and stay as they were" in capfd.readouterr().err
        site.robots = "User-agent: *\nDisallow: /tagged\n"
        _, third = scrape(tmp_path / "third", web(site, retries=0), before=second.root)
        assert outcomes(site, third)["/tagged"] == "robots"


def test_a_site_that_is_away_is_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serve() as site:
        small_site(site)
        metrics, first = scrape(tmp_path / "first", web(site))
        site.robots_status = 503  # everything is forbidden, for now (RFC 9309, 2.3.1.4)
        busy, second = scrape(tmp_path / "second", web(site, retries=0), before=first.root)
        assert (tree(second), busy) == (tree(first), metrics)
        assert "no host answers at the moment" in caplog.text
    away, third = scrape(tmp_path / "third", web(site, retries=0), before=first.root)
    assert (tree(third), away) == (tree(first), metrics)


def test_a_killed_refresh_continues(tmp_path: Path) -> None:
    with serve() as site:
        small_site(site)
        _, first = scrape(tmp_path / "first", web(site))
        backdate(first)
        scrape(tmp_path / "second", web(site), before=first.root)  # leaves its frontier in its work folder
        asked = len(site.requests)
        _, second = scrape(tmp_path / "second", web(site), before=first.root)
        assert {path for _, path, _ in site.requests[asked:]} <= {"/robots.txt"}
        assert tree(second) == tree(first)


def test_a_source_that_is_new_is_crawled_as_ever(tmp_path: Path) -> None:
    with serve() as site:
        small_site(site)
        _, first = scrape(tmp_path / "first", web(site))
        _, second = scrape(tmp_path / "second", web(site, name="other"), before=first.root)
        assert pages(second, "other").keys() == pages(first).keys()


def test_files_are_read_again_and_compared_by_content(tmp_path: Path, one_worker: None) -> None:
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("the first text")
    Path("texts/b.txt").write_text("the second text")
    _, first = scrape(tmp_path / "first", files("texts/*.txt"))
    Path("texts/a.txt").touch()
    _, second = scrape(tmp_path / "second", files("texts/*.txt"), before=first.root)
    assert tree(second) == tree(first)
    Path("texts/c.txt").write_text("a third one")
    _, third = scrape(tmp_path / "third", files("texts/*.txt"), before=second.root)
    assert json.loads((third / "sources.json").read_text()) == json.loads((first / "sources.json").read_text())
    assert tree(third) != tree(first)
