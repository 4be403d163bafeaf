"""The crawler among difficult hosts: one crawl over a site that has all of it, back-off, robots.txt's wishes."""

import asyncio
import gzip
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.scrape.crawler.fetch_result import parse_retry_after
from tasks.scrape.crawler.frontier import Outcome
from tasks.scrape.crawler.politeness import Politeness
from tasks.scrape.crawler.robots_txt import RobotsCache
from tests.helpers.scraping import (
    crawl_log,
    outcomes,
    pages,
    scrape,
    web,
)
from tests.helpers.site_server import serve


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serve() as site:
        site.robots = (
            f"User-agent: *\nDisallow: /secret\nSitemap: {site.url}/map-index.xml\nSitemap: {site.url}/secret.xml"
        )
        links = [
            "/noindex",
            "/nofollow",
            "/tagged",
            "/noai",
            "/same?utm=1",
            "/same?utm=2",
            "/plain",
            "/busy",
            "/closed",
        ]
        traps = ["/a/b/a/b/a/b/c", f"/calendar/{datetime.now(UTC).year + 3}/01/", "/x?" + "&".join(["f=1"] * 5)]
        site.pages["/"] = site.link_to(*links, *traps, "/both", *(f"/list?page={n}" for n in range(1, 7)))
        site.pages["/list"] = "<p>one page of a list</p>"
        site.pages["/noindex"] = '<meta name="ROBOTS" content="NoIndex"><a href="/from-noindex">x</a>'
        site.pages["/nofollow"] = (
            '<meta name="textmill" content="nofollow"><a href="/both">b</a><a href="/unseen">u</a>'
        )
        site.replies["/tagged"] = lambda _: (200, {"X_Robots_Tag": "otherbot: nofollow, noindex"}, b"<p>for us</p>")
        site.replies["/noai"] = lambda _: (200, {"X_Robots_Tag": "noai"}, b"<p>not for us</p>")
        site.pages["/same"] = '<head><link rel="canonical" href="/same"></head><p>the same</p>'
        site.replies["/plain"] = lambda _: (
            200,
            {"Link": '</same>; rel="canonical"', "Content_Type": "text/plain"},
            b"the same as text",
        )
        site.replies["/busy"] = lambda n: (429, {"Retry_After": "1"}, b"") if n == 1 else (200, {}, b"<p>busy</p>")
        site.replies["/closed"] = lambda _: (404, {"Retry_After": "9999"}, b"")
        for path in ("/from-noindex", "/both", "/mapped", "/mapped2"):
            site.pages[path] = f"<p>{path}</p>"
        urlset = "<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'>{}</urlset>"
        one = urlset.format(f"<url><loc>{site.url}/mapped</loc></url><url><loc>http://elsewhere.example/</loc></url>")
        two = urlset.format(f"<url><loc> {site.url}/mapped2 </loc></url><url><loc>{site.url}/both</loc></url>")
        index = "".join(
            f"<sitemap><loc>{url}</loc></sitemap>"
            for url in (site.url + "/one.xml", site.url + "/two.xml.gz", site.url + "/map-index.xml")
        )
        index += "<sitemap><loc>http://elsewhere.example/s.xml</loc></sitemap>"
        site.replies["/map-index.xml"] = lambda _: (
            200,
            {"Content_Type": "text/xml"},
            f"<sitemapindex>{index}</sitemapindex>".encode(),
        )
        site.replies["/one.xml"] = lambda _: (200, {"Content_Type": "application/xml"}, one.encode())
        site.replies["/two.xml.gz"] = lambda _: (200, {"Content_Type": "application/gzip"}, gzip.compress(two.encode()))
        source = web(site, sitemaps=True, max_variants=4, contact="corpus@e.org")
        metrics, outputs = scrape(tmp_path_factory.mktemp("crawl"), source)
        yield site, metrics, outputs


def test_every_url_is_accounted_for(crawled: Any) -> None:
    site, metrics, outputs = crawled
    saved = ["/", "/nofollow", "/tagged", "/busy", "/from-noindex", "/both", "/mapped", "/mapped2", "/same"]
    assert outcomes(site, outputs) == {
        **dict.fromkeys(saved, "saved"),
        **dict.fromkeys([f"/list?page={n}" for n in range(1, 5)], "saved"),
        **dict.fromkeys([f"/list?page={n}" for n in range(5, 7)], "trap"),
        **dict.fromkeys(["/noindex", "/noai"], "noindex"),
        **dict.fromkeys(["/same?utm=1", "/same?utm=2", "/plain"], "canonical"),
        **dict.fromkeys(["/map-index.xml", "/one.xml", "/two.xml.gz"], "sitemap"),
        **dict.fromkeys(["http://elsewhere.example/", "http://elsewhere.example/s.xml"], "excluded"),
        "/a/b/a/b/a/b/c": "trap",
        f"/calendar/{datetime.now(UTC).year + 3}/01/": "trap",
        "/x?f=1&f=1&f=1&f=1&f=1": "trap",
        "/unseen": "nofollow",
        "/secret.xml": "robots",
        "/closed": "http_404",
    }
    assert metrics["pages"] == len(pages(outputs)) == len(saved) + 4
    assert sum(metrics["sources"]["site"]["outcomes"].values()) == len(crawl_log(outputs))
    details = {url.removeprefix(site.url): entry.get("detail") for url, entry in crawl_log(outputs).items()}
    assert details["/noindex"] == "meta robots: noindex"
    assert details["/noai"] == "X-Robots-Tag: noai"
    assert details["/plain"] == f"the same page as {site.url}/same"
    assert details["/two.xml.gz"] == "2 pages, 0 sitemaps"
    assert str(details["/a/b/a/b/a/b/c"]).startswith("repeating_path")


def test_the_crawler_says_who_it_is(crawled: Any) -> None:
    site, _, _ = crawled
    for _, path, headers in site.requests:
        assert headers["User-Agent"].startswith("Textmill "), path
        assert headers["User-Agent"].endswith("(+corpus@e.org)")
        assert headers["From"] == "corpus@e.org"


def test_retry_after_holds_for_the_whole_host(crawled: Any) -> None:
    site, _, outputs = crawled
    assert crawl_log(outputs)[site.url + "/busy"]["attempts"] == site.asked["/busy"] == 2
    told = next(at for at, path, _ in site.requests if path == "/busy")
    # What was under way may arrive still; then the host is left in peace for the second that it asked for.
    assert not [path for at, path, _ in site.requests if told + 0.3 < at < told + 0.9]


def test_retry_after_is_seconds_or_a_date_by_the_servers_clock() -> None:
    now = datetime.now(UTC)
    ahead = now + timedelta(hours=5)  # a clock that is wrong
    assert parse_retry_after("120", "") == 120
    assert parse_retry_after(format_datetime(ahead + timedelta(seconds=90), usegmt=True), format_datetime(ahead)) == 90
    assert 80 < parse_retry_after(format_datetime(now + timedelta(seconds=90), usegmt=True), "") <= 90
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT", "") == 0
    for nonsense in ("", "soon", "-5", "1e9", "٣", "Wed, 99 Oct 2015 07:28:00 GMT"):
        assert parse_retry_after(nonsense, "") == 0
    assert parse_retry_after("9" * 400, "") < float("inf")


def test_a_pause_longer_than_anyone_waits_closes_the_host(tmp_path: Path) -> None:
    with serve() as site:
        site.pages["/"] = site.link_to("/down", *(f"/{n}" for n in range(5)))
        site.pages |= {f"/{n}": "<p>page</p>" for n in range(5)}
        site.replies["/down"] = lambda _: (503, {"Retry_After": "3600"}, b"")
        metrics, outputs = scrape(tmp_path, web(site, concurrency=1, max_wait=60))
        found = crawl_log(outputs)
        assert found[site.url + "/down"]["detail"] == "Retry-After: 3600 s, max_wait is 60"
        assert metrics["sources"]["site"]["outcomes"] == {"http_503": 1, "retry_later": 5, "saved": 1}
        assert sum(site.asked.values()) == 3  # robots.txt, / and /down: nothing after it was told to wait


def test_turns_and_pauses_of_a_host() -> None:
    async def play() -> list[tuple[str, float]]:
        politeness, order = Politeness(max_wait=60), []
        start = time.monotonic()

        async def ask(name: str, host: str) -> None:
            assert await politeness.wait_turn(host, 0.05)
            order.append((name, time.monotonic() - start))

        politeness.pause("busy", 0.2)
        await asyncio.gather(ask("a", "busy"), ask("b", "busy"), ask("c", "free"))
        politeness.pause("gone", 3600)
        assert not await politeness.wait_turn("gone", 0)
        return order

    (first, _), (second, at_a), (third, at_b) = asyncio.run(play())
    assert (first, second, third) == ("c", "a", "b")
    assert at_a >= 0.199
    assert at_b >= 0.249


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("Crawl-delay: 2", 2.0),
        ("Request-rate: 1/10s", 10.0),
        ("Request-rate: 30/1m\nCrawl-delay: 1", 2.0),
        ("Crawl-delay: 3\nRequest-rate: 1/1s", 3.0),
        ("Crawl-delay: soon", 0.0),
        ("Disallow:", 0.0),
    ],
)
def test_robots_txt_asks_for_time(text: str, delay: float) -> None:
    async def fetch(url: str) -> tuple[Outcome, bytes, None]:
        return Outcome("saved", status=200), f"User-agent: *\n{text}\n".encode(), None

    rules = asyncio.run(RobotsCache(fetch).rules("http://e.org/x"))
    assert rules.delay("Textmill") == delay
    refusal = rules.refusal("http://e.org/x", "Textmill", 1.5)
    assert (refusal is not None) == (delay > 1.5)
    assert refusal is None or refusal.name == "robots"
