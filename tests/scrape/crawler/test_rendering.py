"""Pages that scripts build: rendered by a browser that reaches the network only as the crawler does."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tasks.clean.warc_reader import read_pages
from tasks.core.errors import UserError
from tasks.scrape.crawler.browser import find_browser
from tests.helpers.scraping import crawl_log, pages, scrape, web
from tests.helpers.site_server import serve

PAGE = """<!DOCTYPE html><head><script src="/app.js"></script><script src="/secret/spy.js"></script></head>
<body><div id="app">loading</div><img src="/pixel.png">{extra}</body>"""
APP = """window.addEventListener('load', async () => {
  const said = await (await fetch('/data.json')).json();
  fetch('/collect', {method: 'POST', body: 'x'}).catch(() => {});
  fetch(OTHER).catch(() => {});
  setTimeout(() => {
    document.getElementById('app').innerHTML = '<p>' + said.text + '</p><a href="/built">a link that a script made</a>';
  }, 3000);
});"""


def script(text: str) -> Any:
    return lambda _: (200, {"Content_Type": "text/javascript"}, text.encode())


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_scripts_build_the_page_and_nothing_passes_the_crawler(tmp_path: Path) -> None:
    with serve() as site, serve() as private:
        other = private.url.replace("127.0.0.1", "localhost")
        site.pages["/"] = PAGE.format(extra=f"<p>see {other}/ too</p>")
        site.pages["/built"] = "<script>location = '/elsewhere'</script><p>it stays here</p>"
        site.pages["/elsewhere"] = "<p>another page</p>"
        site.replies["/app.js"] = script(APP.replace("OTHER", f"'{other}/inside'"))
        site.replies["/secret/spy.js"] = script("document.title = 'spied'")
        site.replies["/data.json"] = lambda _: (200, {"Content_Type": "application/json"}, '{"text": "Grüße"}'.encode())
        metrics, outputs = scrape(tmp_path, web(site, render=True, contact="https://e.org/bot"))
        found = pages(outputs)
        log = crawl_log(outputs)
        assert set(found) == {site.url + path for path in ("/", "/built", "/elsewhere")}
        record, body = found[site.url + "/"]
        assert record.rec_type == "conversion"
        assert "<p>Grüße</p>" in body.decode()
        assert b"it stays here" in found[site.url + "/built"][1]
        # robots.txt, one request for each page, limits of kind: what the browser wants, the crawler asks for, or nobody.
        assert not {"/secret/spy.js", "/pixel.png", "/collect"} & set(site.asked)
        assert site.asked["/"] == site.asked["/built"] == site.asked["/app.js"] == site.asked["/data.json"] == 1
        assert not private.requests, "a private address was reached by the browser"
        assert {headers["User-Agent"] for _, _, headers in site.requests} == {site.requests[0][2]["User-Agent"]}
        assert log[site.url + "/built"]["detail"] == f"not rendered: a script leads to {site.url}/elsewhere"
        assert str(log[site.url + "/"]["detail"]).startswith("rendered; 4 further requests, ")
        read = [page for path in (outputs / "web" / "site").iterdir() for page in read_pages(path, 10**7)]
        assert [(page.charset, page.content_type, page.problem) for page in read] == [("utf-8", "text/html", None)] * 3
        assert all(page.fetched_at for page in read)
        assert metrics["pages"] == 3


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_a_page_whose_script_never_ends_is_kept_as_it_was_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from tasks.scrape.crawler import browser
    from tasks.scrape.crawler.fetch_result import FetchResult
    from tasks.scrape.crawler.frontier import Outcome

    monkeypatch.setattr(browser, "TIMEOUT_S", 4.0)

    async def fetch(url: str) -> FetchResult:
        return FetchResult(Outcome("http_404", status=404))

    async def play(html: str, most: int, url: str = "http://e.org/") -> browser.Rendered:
        page = FetchResult(
            Outcome("saved", status=200), html.encode(), headers=[("Content-Type", "text/html; charset=utf-8")]
        )
        return await browser.Browser(str(find_browser()), "Textmill/0.1", most, fetch).render(url, page)

    endless = asyncio.run(play("<script>for (;;);</script>", 10**6))
    assert (endless.html, endless.note) == (None, "not rendered: more than 4 s")
    monkeypatch.setattr(browser, "TIMEOUT_S", 30.0)
    large = asyncio.run(play("<script>document.write('<p>x</p>'.repeat(2e5))</script>", 10**6))
    assert (large.html, large.note) == (None, "not rendered: more than 1000000 bytes come out")
    secure = asyncio.run(play("<body><script>document.write(location.protocol)</script>", 10**6, "https://e.org/a?b=1"))
    assert b"https:" in (secure.html or b"")


@pytest.mark.skipif(shutil.which("perl") is None, reason="the part of the browser is played in Perl")
def test_a_browser_that_prints_without_end_is_stopped_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it wrote when it was killed and nobody has read."""
    import asyncio

    from tasks.scrape.crawler import browser
    from tasks.scrape.crawler.fetch_result import FetchResult
    from tasks.scrape.crawler.frontier import Outcome

    async def fetch(url: str) -> FetchResult:
        return FetchResult(Outcome("http_404", status=404))

    with tempfile.TemporaryDirectory() as folder:  # for every user, as a browser is
        Path(folder).chmod(0o755)
        endless = Path(folder) / "browser"
        # More in the pipe than asyncio reads ahead: it pauses the pipe.
        endless.write_text(f'#!{shutil.which("perl")}\nfcntl(STDOUT, 1031, 1 << 20); print "x" x 65536 while 1;\n')
        endless.chmod(0o755)
        monkeypatch.setattr(browser, "TIMEOUT_S", 60.0)
        page = FetchResult(Outcome("saved", status=200), b"<p>x", headers=[("Content-Type", "text/html")])
        for _ in range(5):
            rendered = asyncio.run(browser.Browser(str(endless), "T/0.1", 10**5, fetch).render("http://e.org/", page))
            assert rendered.note == "not rendered: more than 100000 bytes come out"


def test_no_browser_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"render: true needs Chromium.*apt-get install chromium"):
        scrape(tmp_path, {"name": "s", "kind": "web", "start": ["http://e.invalid"], "render": True})
