"""Where pages lead, and what forbids to go there, as browsers and RFC 9309 have it."""

import asyncio
import codecs
import gzip
from pathlib import Path

import pytest

from tasks.scrape.crawler.frontier import Outcome
from tasks.scrape.crawler.html_page import HtmlPage
from tasks.scrape.crawler.links import Scope, links_of
from tasks.scrape.crawler.robots_txt import RobotsCache
from tasks.scrape.sources import WebSource
from tests.helpers.scraping import outcomes, pages, scrape, web
from tests.helpers.site_server import serve

FILLER = "<script>/* " + "x" * 5000 + " */</script>"


def test_pages_that_browsers_find_are_found(tmp_path: Path) -> None:
    with serve() as site:
        site.robots = "\ufeffUser-agent: *\nDisallow: /private/\n"
        found = ["/docs/deep", "/caf%C3%A9", "/old%E9", "/moved/here", "/toc", "/chapter", "/inner", "/line", "/zeros"]
        site.pages["/"] = site.link_to(
            *("/private/x", "/based", "/utf8", "/latin", "/refresh", "/frames", "/frame-in-a-page", "/line", "/zeros")
        )
        site.pages["/based"] = f'<head>{FILLER}<base href="/docs/"></head><a href="deep">deep</a>'
        site.pages["/refresh"] = '<meta http-equiv="Refresh" content="0; URL=\'/moved/here\'"><p>gone</p>'
        site.pages["/frames"] = '<frameset><frame src="/toc"><frame src="/chapter"></frameset>'
        site.pages["/frame-in-a-page"] = '<iframe src="/inner"></iframe><iframe src="about:blank"></iframe>'
        for at in ("/docs/deep", "/caf%C3%A9", "/old%E9", "/moved/here", "/toc", "/chapter", "/inner"):
            site.pages[at] = f"<p>the page at {at}</p>"
        site.replies["/utf8"] = lambda _: (302, {"Location": " /café ".encode().decode("latin-1")}, b"")
        site.replies["/latin"] = lambda _: (302, {"Location": "/old\xe9"}, b"")
        packed = gzip.compress(b"<p>a page with something after it</p>")
        site.replies["/line"] = lambda _: (200, {"Content_Encoding": "gzip"}, packed + b"\n")
        site.replies["/zeros"] = lambda _: (200, {"Content_Encoding": "gzip"}, packed + bytes(8))
        _, outputs = scrape(tmp_path, web(site))
        became = outcomes(site, outputs)
        assert set(found) <= {at.removeprefix(site.url) for at in pages(outputs, "site")}
        assert became["/private/x"] == "robots"
        assert not site.asked["/private/x"]
        assert not site.asked["/deep"]
        assert became["/utf8"] == became["/latin"] == "redirect"


@pytest.mark.parametrize(
    "body",
    [
        codecs.BOM_UTF8 + b"User-agent: *\nDisallow: /private/\n",
        "\ufeffUser-agent: *\r\nDisallow: /private/\r\n".encode("utf-16-le"),
        "\ufeffUser-agent: *\nDisallow: /private/\n".encode("utf-16-be"),
        "User-agent: *\nDisallow: /private/\n".encode("utf-16-le"),
        b"# comments\n" + codecs.BOM_UTF8 + b"User-agent: *\nDisallow: /private/\n",
        b"# caf\xe9\nUser-agent: *\nDisallow: /private/\n",
    ],
)
def test_robots_txt_is_obeyed_in_whatever_encoding(body: bytes) -> None:
    async def fetch(_: str) -> tuple[Outcome, bytes, str | None]:
        return Outcome("saved", status=200), body, None

    rules = asyncio.run(RobotsCache(fetch).rules("http://e.org/"))
    assert rules.refusal("http://e.org/private/x", "textmill", 60) is not None
    assert rules.refusal("http://e.org/public", "textmill", 60) is None


def addresses(html: str, encoding: str = "utf-8") -> list[str]:
    headers = {"Content-Type": f"text/html; charset={encoding}"}
    return list(HtmlPage("http://e.org/a/b", headers, html.encode(encoding)).addresses())


@pytest.mark.parametrize(
    ("refresh", "address"),
    [
        ("0; url=/x", "http://e.org/x"),
        ("0;URL = '/x'", "http://e.org/x"),
        (' 5.5 , url="x"rest', "http://e.org/a/x"),
        ("3 /x", "http://e.org/x"),
        (".5;x", "http://e.org/a/x"),
        ("0; url=http://f.org/", "http://f.org/"),
        ("30", None),
        ("0;", None),
        ("url=/x", None),
        ("0; url=javascript:x()", None),
        ("0; url=http://[x", None),
    ],
)
def test_where_a_refresh_leads(refresh: str, address: str | None) -> None:
    quoted = refresh.replace('"', "&quot;")
    found = addresses(f'<meta http-equiv=refresh content="{quoted}">')
    assert found == ([address] if address else [])
    assert addresses(f'<noscript><meta http-equiv=refresh content="{quoted}"></noscript>') == []


def test_addresses_are_relative_to_the_first_base() -> None:
    assert addresses('<base target=x><base href="/d/"><base href="/e/"><a href=f>') == ["http://e.org/d/f"]
    assert addresses(f'<head>{FILLER}<base href="d/"></head><a href=f>') == ["http://e.org/a/d/f"]
    assert addresses("<!-- <base href=/d/> --><a href=f>") == ["http://e.org/a/f"]
    assert addresses("<base href='http://[x'><a href=f>") == ["http://e.org/a/f"]
    assert addresses("<base href='data:,x'><a href=f>") == ["http://e.org/a/f"]


def test_queries_are_written_in_the_encoding_of_the_page() -> None:
    assert addresses('<a href="/道?q=日本">', "shift_jis") == ["http://e.org/%E9%81%93?q=%93%FA%96%7B"]
    assert addresses('<a href="/?q=日本">', "utf-16-le") == ["http://e.org/?q=%E6%97%A5%E6%9C%AC"]
    assert addresses('<a href="/?q=&#26085;">', "iso-8859-1") == ["http://e.org/?q=%E6%97%A5"]


def test_links_in_the_order_of_the_page() -> None:
    source = WebSource(name="s", start=("http://www.e.org/",), deny=("/private",))
    html = b"""<base href="/docs/"><a href="b#x">b</a> <a href=" a ">a</a><a href="b#y">b</a><a href="javascript:x()">j</a>
    <a href="/private/1">p</a><a href="http://e.org/c">c</a><a href="http://[bad">x</a><a href="//other.org/">o</a>"""
    found = list(links_of("http://www.e.org/x", {"Content-Type": "text/html"}, html, Scope(source)))
    followed = list(dict.fromkeys(link.url for link in found if not link.excluded))
    assert followed == ["http://www.e.org/docs/b", "http://www.e.org/docs/a", "http://e.org/c"]
