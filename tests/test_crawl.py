"""The crawler among difficult hosts: back-off, robots.txt's wishes, sitemaps, canonical links, traps, limits, kills."""

import asyncio
import gzip
import json
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from site_server import Site, serve
from test_scrape import ROOT, crawl_log, pages, scrape, web

from tasks.core.errors import UserError
from tasks.web.answer import retry_after_s
from tasks.web.canonical import fold, root
from tasks.web.directives import directives
from tasks.web.frontier import Frontier, Link, Outcome, Visit
from tasks.web.links import page_of
from tasks.web.pace import Pace
from tasks.web.resolver import GuardedResolver, is_public
from tasks.web.robots import Robots
from tasks.web.schedule import visit_in_order
from tasks.web.sitemaps import read_sitemap
from tasks.web.sources import WebSource
from tasks.web.traps import family, grown, trap


def outcomes(site: Site, outputs: Any) -> dict[str, str]:
    return {url.removeprefix(site.url): entry["outcome"] for url, entry in crawl_log(outputs).items()}


# --- one crawl over a site that has all of it ----------------------------------------------------------------------


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
        assert headers["User-Agent"].startswith("Textmill/"), path
        assert headers["User-Agent"].endswith("(+corpus@e.org)")
        assert headers["From"] == "corpus@e.org"


def test_retry_after_holds_for_the_whole_host(crawled: Any) -> None:
    site, _, outputs = crawled
    assert crawl_log(outputs)[site.url + "/busy"]["attempts"] == site.asked["/busy"] == 2
    told = next(at for at, path, _ in site.requests if path == "/busy")
    # What was under way may arrive still; then the host is left in peace for the second that it asked for.
    assert not [path for at, path, _ in site.requests if told + 0.3 < at < told + 0.9]


# --- back-off --------------------------------------------------------------------------------------------------------


def test_retry_after_is_seconds_or_a_date_by_the_servers_clock() -> None:
    now = datetime.now(UTC)
    ahead = now + timedelta(hours=5)  # a clock that is wrong
    assert retry_after_s("120", "") == 120
    assert retry_after_s(format_datetime(ahead + timedelta(seconds=90), usegmt=True), format_datetime(ahead)) == 90
    assert 80 < retry_after_s(format_datetime(now + timedelta(seconds=90), usegmt=True), "") <= 90
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT", "") == 0
    for nonsense in ("", "soon", "-5", "1e9", "٣", "Wed, 99 Oct 2015 07:28:00 GMT"):
        assert retry_after_s(nonsense, "") == 0
    assert retry_after_s("9" * 400, "") < float("inf")


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
        pace, order = Pace(max_wait=60), []
        start = time.monotonic()

        async def ask(name: str, host: str) -> None:
            assert await pace.turn(host, 0.05)
            order.append((name, time.monotonic() - start))

        pace.pause("busy", 0.2)
        await asyncio.gather(ask("a", "busy"), ask("b", "busy"), ask("c", "free"))
        pace.pause("gone", 3600)
        assert not await pace.turn("gone", 0)
        return order

    (first, at_c), (second, at_a), (third, at_b) = asyncio.run(play())
    assert (first, second, third) == ("c", "a", "b")
    assert at_c < 0.15
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

    rules = asyncio.run(Robots(fetch).rules("http://e.org/x"))
    assert rules.delay("Textmill") == delay
    refusal = rules.refusal("http://e.org/x", "Textmill", 1.5)
    assert (refusal is not None) == (delay > 1.5)
    assert refusal is None or refusal.name == "robots"


# --- pages about themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "html", "noindex", "nofollow"),
    [
        (["noindex"], "", True, False),
        (["none"], "", True, True),
        (["googlebot: noindex"], "", False, False),
        (["textmill: noindex, nofollow"], "", True, True),
        (["googlebot: noindex", "nofollow"], "", False, True),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST, nofollow"], "", False, True),
        (["max-snippet:20, noindex"], "", True, False),
        ([], "<META NAME='Robots' CONTENT='NOINDEX , NoFollow'>", True, True),
        ([], "<meta name=googlebot content=noindex><meta name=robots content='index,follow,noarchive'>", False, False),
    ],
)
def test_robots_directives(tags: list[str], html: str, noindex: bool, nofollow: bool) -> None:
    page = page_of("http://e.org/", {"Content-Type": "text/html"}, html.encode())
    said = directives("Textmill", tags, [], page)
    assert (said.noindex is not None, said.nofollow is not None) == (noindex, nofollow)


@pytest.mark.parametrize(
    ("links", "html", "canonical"),
    [
        ([], "<head><base href='/d/'><link rel='x Canonical' href=' b '></head>", "http://e.org/d/b"),
        ([], "<head></head><body><p>said by a visitor <link rel=canonical href=/evil></body>", None),
        (['<http://e.org/c>; rel="canonical"'], "", "http://e.org/c"),
        (['</style.css>; rel=preload; as=style, <c>; title="a, b"; rel=canonical'], "", "c"),
        (["<http://e.org/c>; rel=canonical"], "<head><link rel=canonical href=http://e.org/d></head>", None),
        (["<" * 5000, ";" * 5000], "", None),
    ],
)
def test_canonical_links(links: list[str], html: str, canonical: str | None) -> None:
    page = page_of("http://e.org/a", {"Content-Type": "text/html"}, html.encode())
    assert directives("Textmill", [], links, page).canonical == canonical


@pytest.mark.slow
def test_canonical_links_to_other_hosts_are_not_believed(tmp_path: Path) -> None:
    with serve() as site:
        site.pages["/"] = site.link_to("/1", "/2", "/3", "/4")
        for n, target in enumerate(["http://elsewhere.example/", "/4", "/gone", "http://[bad"], 1):
            site.pages[f"/{n}"] = f"<head><link rel=canonical href='{target}'></head><p>page {n}</p>"
        _, outputs = scrape(tmp_path, web(site, depth=2))
        found = outcomes(site, outputs)
        assert [found[f"/{n}"] for n in range(1, 5)] == ["saved", "canonical", "saved", "saved"]
        assert found["/gone"] == "http_404"
        _, outputs = scrape(tmp_path / "off", web(site, canonical=False))
        assert outcomes(site, outputs)["/2"] == "saved"


@pytest.mark.slow
def test_a_full_crawl_fills_the_place_of_folded_pages(tmp_path: Path) -> None:
    with serve() as site:
        site.pages["/"] = site.link_to(*(f"/p?s={n}" for n in range(5)), "/1", "/2", "/3")
        site.pages |= {"/p": "<head><link rel=canonical href=/p></head>p", "/1": "1", "/2": "2", "/3": "3"}
        for concurrency in (1, 4):
            metrics, outputs = scrape(tmp_path / str(concurrency), web(site, max_pages=4, concurrency=concurrency))
            assert {url.removeprefix(site.url) for url in pages(outputs)} == {"/", "/p?s=0", "/1", "/2"}
            assert metrics["pages"] == 4


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")), st.permutations("abcdefgh"))
def test_folding_does_not_depend_on_when_it_is_done(pointers: dict[str, str], order: list[str]) -> None:
    pointers = {key: target for key, target in pointers.items() if key != target}
    places = sorted("abcdefgh")
    at_once = set(places) - set(fold(pointers, places))
    assert len(at_once) == len({root(key, pointers) for key in places})
    kept: set[str] = set()
    known: dict[str, str] = {}
    for key in order:  # as pages come in, with a fold after each
        kept.add(key)
        known |= {key: pointers[key]} if key in pointers else {}
        kept -= set(fold(known, sorted(kept)))
    assert kept == at_once


# --- traps -------------------------------------------------------------------------------------------------------------

NEXT_CENTURY = 2150


@pytest.mark.parametrize(
    "url",
    [
        "/docs/docs/docs/page",
        "/a/b/a/b/a/b",
        "/x/a/y/a/z/a/q",
        "/" + "/".join(str(n) for n in range(30)),
        f"/calendar/{NEXT_CENTURY}/07/",
        f"/events/{NEXT_CENTURY}-07-31",
        f"/cal?year={NEXT_CENTURY}&month=3",
        f"/?tribe-bar-date={NEXT_CENTURY}-01",
        "/s?a=1&a=2&a=3&a=4",
        "/login?next=%2Flogin%3Fnext%3D%252Flogin%253Fnext%253D%25252Flogin%25253Fnext%25253D%2525252F",
    ],
)
def test_traps(url: str) -> None:
    assert trap("http://e.org" + url)


@pytest.mark.parametrize(
    "url",
    [
        "/",
        "/docs/v2/docs/page",
        "/2021/05/13/news/2021/",
        "/blog/2024/11/24/a-title",
        "/issues/2150/comments/3",
        "/archive/1815/06/18/",
        "/index.php?title=Year_2150&action=view",
        "/s?q=a&page=2&sort=date&lang=en&tag=x&tag=y",
        "/login?next=%2Fsearch%3Fq%3Dx",
        "/library/os.path.html#os.path.join",
        "/en/en/page",
    ],
)
def test_ordinary_urls_are_no_traps(url: str) -> None:
    assert trap("http://e.org" + url) is None


def test_a_query_that_grows_from_page_to_page() -> None:
    page = "http://e.org/shop?" + "&".join(f"f{n}=1" for n in range(7))
    assert grown(page, page + "&f8=1")
    assert grown(page, page.replace("f1=1", "f1=2") + "&f8=1") is None  # another selection, not this and one more
    assert grown("http://e.org/shop?f=1", "http://e.org/shop?f=1&page=2") is None
    assert grown(page, page.replace("shop", "other") + "&f8=1") is None


def test_families() -> None:
    same = {family(f"http://e.org/day/{date}") for date in ("2024-01-31", "1999/2/1", "20240131", "2024/11")}
    assert same == {"e.org/day/<date>"}
    assert family("http://e.org/p?a=1") == family("http://e.org/p?b=2") != family("http://e.org/q?a=1")
    assert family("http://e.org/2024/01/31/title") != family("http://e.org/2024/01/31/other")
    assert family("http://e.org/page/12") is None


@given(st.text(alphabet="/ab&?=%21-", max_size=300))
def test_trap_rules_take_any_url(tail: str) -> None:
    url = "http://e.org/" + tail
    trap(url), family(url), grown(url, url + "&x=1")


@pytest.mark.slow
def test_an_endless_site_ends(tmp_path: Path) -> None:
    """Four kinds of endless pages; each is left after a bounded number of requests, without a limit of pages."""
    with serve() as site:
        site.pages["/"] = site.link_to("/cal/2020-01", "/rel/", "/facets?f0=1", "/session?id=0")

        def follow(path: str) -> bytes:
            kind = path.split("/")[1].partition("?")[0]
            if kind == "cal":
                year, month = (int(part) for part in path.rsplit("/", 1)[1].split("-"))
                return f"<a href='/cal/{year + month // 12}-{month % 12 + 1:02}'>next</a>".encode()
            if kind == "rel":
                return b"<a href='deeper/'>d</a>"
            if kind == "facets":
                return f"<a href='{path}&f{path.count('=')}=1'>more</a>".encode()
            return f"<a href='/session?id={site.asked.total()}'>again</a>".encode()

        site.follow = follow
        metrics, outputs = scrape(tmp_path, web(site, depth=1000, max_pages=100_000, max_variants=30))
        found = metrics["sources"]["site"]["outcomes"]
        rules = {
            entry["detail"].partition(":")[0] for entry in crawl_log(outputs).values() if entry["outcome"] == "trap"
        }
        assert rules == {"variants", "repeating_path", "growing_query"}
        assert found["trap"] == 4
        assert 60 < metrics["pages"] < 80


@pytest.mark.slow
@pytest.mark.parametrize("head", ["<meta name=robots content=noindex>", "<head><link rel=canonical href=/></head>"])
def test_pages_that_are_not_kept_do_not_go_on_for_ever(tmp_path: Path, head: str) -> None:
    with serve() as site:
        site.pages["/"] = site.link_to("/made/1", "/made/2")
        site.follow = lambda path: f"{head}<a href='{path}1'>a</a><a href='{path}2'>b</a>".encode()
        metrics, _ = scrape(tmp_path, web(site, max_pages=5, max_visits=40, depth=1000))
        assert set(metrics["sources"]["site"]["outcomes"]) == {
            "saved",
            "noindex" if "noindex" in head else "canonical",
            "visit_limit",
        }
        assert metrics["pages"] == 1
        assert site.asked.total() == 41  # and robots.txt


# --- the frontier ------------------------------------------------------------------------------------------------------


def test_a_link_that_may_be_followed_wins(tmp_path: Path) -> None:
    weak = [Link("x", "x", "nofollow", "nofollow"), Link("t", "t", "growing_query", "trap")]
    strong = [Link("x", "x"), Link("t", "t"), Link("out", "out", "denied")]
    for number, order in enumerate([(weak, strong), (strong, weak)]):
        frontier = Frontier(tmp_path / f"{number}.sqlite")
        frontier.start([Link("a", "a"), Link("b", "b")])
        for visit, links in zip(frontier.level(0), order, strict=True):
            frontier.finish(visit, Outcome("saved"), b"", links)
        assert [visit.key for visit in frontier.level(1)] == ["x", "t"]
        frontier.close()


@given(seed=st.integers(0, 2**32), most=st.integers(1, 5))
def test_variants_are_the_first_in_order_whatever_answers_first(seed: int, most: int) -> None:
    source = random.Random(seed)
    urls = [Link(f"u{n}", f"u{n}", family="f" if n % 3 else None) for n in range(20)]
    taken = []
    for _ in range(2):
        frontier = Frontier(Path(":memory:"))
        frontier.start([Link("a", "a"), Link("b", "b"), Link("c", "c")])
        visits = frontier.level(0, most)
        source.shuffle(visits)
        for visit in visits:
            frontier.finish(visit, Outcome("saved"), b"", urls[(ord(visit.key) - 97) * 5 :])
        taken.append([visit.key for visit in frontier.level(1, most)])
        assert taken[-1] == [visit.key for visit in frontier.level(1, most)]
        frontier.close()
    assert taken[0] == taken[1]
    assert len([key for key in taken[0] if int(key[1:]) % 3]) == most


@pytest.mark.slow
def test_limits_of_hosts(tmp_path: Path) -> None:
    with serve() as site, serve() as other:
        for one in (site, other):
            one.pages["/"] = one.link_to(*(f"/{n}" for n in range(9)))
            one.pages |= {f"/{n}": f"<p>{n}</p>" for n in range(9)}
            one.delay_s = 0.05
        source = web(site, start=[site.url + "/", other.url + "/"], host_pages=4, concurrency=8, host_concurrency=1)
        metrics, outputs = scrape(tmp_path, source)
        assert metrics["sources"]["site"]["outcomes"] == {"host_limit": 12, "saved": 8}
        for one in (site, other):
            assert {url.removeprefix(one.url) for url in pages(outputs) if url.startswith(one.url)} == {
                "/",
                "/0",
                "/1",
                "/2",
            }
            asked = [at for at, path, _ in one.requests if path != "/robots.txt"]
            assert all(later - earlier >= 0.045 for earlier, later in pairwise(asked))


@given(
    hosts=st.lists(st.sampled_from("abc"), max_size=30),
    good=st.lists(st.booleans(), min_size=30, max_size=30),
    room=st.integers(1, 20),
    host_pages=st.integers(1, 8),
    concurrency=st.integers(1, 6),
    host_concurrency=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_pages_saved_are_the_first_in_order(
    hosts: str, good: list[bool], room: int, host_pages: int, concurrency: int, host_concurrency: int, seed: int
) -> None:
    visits = [Visit(str(n), f"http://{host}/{n}", 0, n) for n, host in enumerate(hosts)]
    ticks, saved, busy = random.Random(seed), [], dict.fromkeys("abc", 0)
    count = dict.fromkeys("abc", 0)

    async def visit(one: Visit) -> bool:
        host = hosts[one.rank]
        busy[host] += 1
        assert busy[host] <= host_concurrency
        assert sum(busy.values()) <= concurrency
        for _ in range(ticks.randrange(5)):
            await asyncio.sleep(0)
        busy[host] -= 1
        if good[one.rank]:
            saved.append(one.rank)
            count[host] += 1
        return good[one.rank]

    asyncio.run(
        visit_in_order(visits, visit, room, concurrency, lambda host: host_pages - count[host], host_concurrency)
    )
    wanted, per_host = [], dict.fromkeys("abc", 0)
    for n, host in enumerate(hosts):
        if good[n] and per_host[host] < host_pages and len(wanted) < room:
            per_host[host] += 1
            wanted.append(n)
    assert sorted(saved) == wanted


# --- sitemaps ----------------------------------------------------------------------------------------------------------


def test_sitemaps_of_all_kinds() -> None:
    xml = (
        b"\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?><urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'"
        b" xmlns:i='http://www.google.com/schemas/sitemap-image/1.1'><url><loc>http://e.org/?a=1&amp;b=2</loc>"
        b"<i:image><i:loc>http://e.org/i.png</i:loc></i:image></url><url><loc> http://e.org/2\n</loc></url>"
    )
    expected = (["http://e.org/?a=1&b=2", "http://e.org/2"], [])
    assert read_sitemap(xml + b"</urlset>", 9) == expected
    assert read_sitemap(gzip.compress(xml + b"</urlset>"), 9) == expected
    assert read_sitemap(xml + b"<url><loc>http://e.org/cut", 9) == expected
    assert read_sitemap(xml + b"</urlset>", 1) == (expected[0][:1], [])
    assert read_sitemap(b"http://e.org/1\r\n\r\nhttp://e.org/2", 9) == (["http://e.org/1", "http://e.org/2"], [])
    assert read_sitemap(b"<sitemapindex><sitemap><loc>u</loc></sitemap></sitemapindex>", 9) == ([], ["u"])
    for bad in (b"", b"<html><body>not found</body></html>", b"\0\1\2", b"hello", b"<urlset"):
        with pytest.raises(ValueError, match=r".+"):
            read_sitemap(bad, 9)


def test_sitemaps_read_no_files_and_do_not_explode(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("http://e.org/secret")
    entity = f"<!DOCTYPE u [<!ENTITY x SYSTEM 'file://{tmp_path}/secret'>]><urlset><url><loc>http://e.org/&x;</loc></url></urlset>"
    assert "secret" not in str(read_sitemap(entity.encode(), 9))
    laughs = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))
    bomb = f"<!DOCTYPE u [<!ENTITY l0 'lol'>{laughs}]><urlset><url><loc>&l9;</loc></url></urlset>"
    began = time.monotonic()
    try:
        found = read_sitemap(bomb.encode(), 9)
    except ValueError:
        found = ([], [])
    assert len(str(found)) < 1000
    assert time.monotonic() - began < 1


def test_missing_sitemap_is_told_and_no_harm(tmp_path: Path) -> None:
    with serve() as site:
        site.pages["/"] = "<p>home</p>"
        _, outputs = scrape(tmp_path, web(site, sitemaps=True))
        assert outcomes(site, outputs) == {"/": "saved", "/sitemap.xml": "http_404"}


# --- who may be asked --------------------------------------------------------------------------------------------------


class Addresses:
    """A resolver whose answers change from question to question, as in an attack by DNS rebinding."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.nameResolver = list(answers), self

    def resolveHostName(self, receiver: Any, hostName: str, *_: Any, **__: Any) -> None:  # noqa: N802, N803
        from twisted.internet.address import IPv4Address, IPv6Address

        receiver.resolutionBegan(None)
        for answer in self.answers.pop(0):
            receiver.addressResolved((IPv6Address if ":" in answer else IPv4Address)("TCP", answer, 80))
        receiver.resolutionComplete()


class Receiver:
    def __init__(self) -> None:
        self.addresses: list[str] = []

    def resolutionBegan(self, resolution: Any) -> None:  # noqa: N802
        pass

    def addressResolved(self, address: Any) -> None:  # noqa: N802
        self.addresses.append(address.host)

    def resolutionComplete(self) -> None:  # noqa: N802
        pass


def test_rebinding_gives_no_private_address() -> None:
    answers = (["93.184.216.34"], ["10.0.0.1"], ["93.184.216.34", "::ffff:127.0.0.1"], ["64:ff9b::a00:1"], ["10.0.0.2"])
    reactor = Addresses(*answers)
    resolver = GuardedResolver(reactor, frozenset({"intranet.example"}))
    seen = []
    for name in ("evil.example",) * 4 + ("Intranet.example",):
        receiver = Receiver()
        resolver.resolveHostName(receiver, name)
        seen.append(receiver.addresses)
    assert seen == [["93.184.216.34"], [], [], [], ["10.0.0.2"]]
    assert GuardedResolver.refused.pop("evil.example") == "64:ff9b::a00:1"
    assert not is_public("64:ff9b::7f00:1")
    assert is_public("64:ff9b::808:808")


@pytest.mark.slow
def test_private_hosts_are_allowed_by_name(tmp_path: Path) -> None:
    with serve() as site, serve() as inside:
        port, within = site.url.rpartition(":")[2], inside.url.rpartition(":")[2]
        site.pages["/"] = site.link_to(
            "/out", f"http://localhost:{within}/", f"http://127.1:{within}/", "http://[::1]/"
        )
        site.replies["/out"] = lambda _: (302, {"Location": f"http://localhost:{within}/admin"}, b"")
        inside.pages |= {"/": "<p>secret</p>", "/admin": "<p>secret</p>"}
        source = web(site, allow=["."], allow_private=["127.0.0.1"], retries=0)
        _, outputs = scrape(tmp_path / "one", source)
        found = outcomes(site, outputs)
        assert found["/"] == "saved"
        assert found["/out"] == "redirect"
        refused = [
            f"http://localhost:{within}/admin",
            f"http://localhost:{within}/",
            f"http://127.1:{within}/",
            "http://[::1]/",
        ]
        assert {found[url] for url in refused} == {"private_address"}
        assert not inside.requests
        scrape(tmp_path / "true", {**source, "allow_private": True})  # the start's hosts, no other
        assert not inside.requests
        metrics, _ = scrape(tmp_path / "two", {**source, "allow_private": ["127.0.0.1", "LOCALHOST"]})
        assert metrics["pages"] == 3
        assert inside.asked["/admin"] == 1
        assert port != within


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"start": ["http://192.0.2.1:9/"]}, False),
        ({"start": ["http://8.8.8.8:9/"], "contact": "https://e.org/bot"}, False),
        ({"start": ["http://handbook.invalid/"]}, False),
        ({"start": ["http://wiki/"]}, False),
        ({"start": ["http://www.python.org/"]}, True),
        ({"start": ["http://8.8.8.8:9/"]}, True),
        ({"start": ["http://8.8.8.8:9/"], "user_agent": "MyBot/1 (+mailto:me@e.org)"}, False),
    ],
)
def test_owners_of_public_hosts_should_know_whom_to_ask(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    warned: bool,
) -> None:
    from tasks.web import site

    monkeypatch.setattr(site, "_run", lambda _: 1)  # no request is made
    with pytest.raises(RuntimeError):
        site.crawl(WebSource(name="s", **options), tmp_path, tmp_path / "p", tmp_path / "l")
    assert ("contact" in caplog.text) == warned


@pytest.mark.parametrize("contact", ["me) (x", "a\r\nX: y", ""])
def test_a_contact_that_would_break_the_header(tmp_path: Path, contact: str) -> None:
    with pytest.raises(UserError, match="contact"):
        scrape(tmp_path, {"name": "s", "kind": "web", "start": ["http://e.org"], "contact": contact})


# --- kills -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    """Redirects, canonical links, variants, sitemaps and limits among the pages; as many kills as fit."""
    moments = random.Random(8)
    with serve() as site:
        site.delay_s = 0.01
        site.pages["/"] = site.link_to(*(f"/{n}" for n in range(12)), "/moved", "/noindex")
        site.pages["/noindex"] = "<meta name=robots content=noindex><a href='/hidden'>h</a>"
        site.pages["/hidden"] = "<p>hidden</p>"
        for n in range(12):
            variants = [f"/v?x={n}-{m}" for m in range(3)]
            site.pages[f"/{n}"] = site.link_to(*(f"/{n}/{m}" for m in range(6)), *variants, f"/{(n + 1) % 12}/0?again")
            for m in range(6):
                site.pages[f"/{n}/{m}"] = f"<head><link rel=canonical href='/{n}/{m}'></head><p>page {n} {m}</p>"
        site.pages["/v"] = "<p>variant</p>"
        mapped = "".join(f"<url><loc>{site.url}/{n}/{m}?from=map</loc></url>" for n in range(12) for m in range(3))
        site.replies["/sitemap.xml"] = lambda _: (200, {}, f"<urlset>{mapped}</urlset>".encode())
        source = web(site, max_pages=95, sitemaps=True, max_variants=20, depth=3)
        _, whole = scrape(tmp_path / "whole", source)
        script = (
            "import sys, json; from pathlib import Path; sys.path.insert(0, 'tests'); from test_scrape import scrape;"
            "scrape(Path(sys.argv[1]), json.loads(sys.argv[2]))"
        )
        folder = tmp_path / "killed"
        kills = 0
        for _ in range(8):
            command = [sys.executable, "-c", script, str(folder), json.dumps(source)]
            process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
            before = site.asked.total()
            while process.poll() is None and site.asked.total() == before:
                time.sleep(0.005)
            try:
                process.wait(moments.uniform(0, 0.5))
            except subprocess.TimeoutExpired:
                kills += 1
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert kills >= 3
        time.sleep(0.5)  # the crawler dies with the stage
        _, continued = scrape(folder, source)
    assert {u: body for u, (_, body) in pages(continued).items()} == {u: body for u, (_, body) in pages(whole).items()}
    assert len(pages(continued)) == 95
    told = [
        {u: (entry["outcome"], entry.get("detail")) for u, entry in crawl_log(outputs).items()}
        for outputs in (whole, continued)
    ]
    assert told[0] == told[1]
    assert {outcome for outcome, _ in told[0].values()} >= {
        "saved",
        "canonical",
        "trap",
        "noindex",
        "redirect",
        "sitemap",
    }
