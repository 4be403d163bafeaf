"""Where a crawl ends: traps, variants, limits, and the order in which pages are taken."""

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.scrape.crawler.frontier import Frontier, Link, Outcome, Visit
from tasks.scrape.crawler.traps import family, growing_query, trap_reason
from tasks.scrape.crawler.visit_order import visit_in_order
from tests.helpers.scraping import (
    crawl_log,
    pages,
    scrape,
    web,
)
from tests.helpers.site_server import serve

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
    assert trap_reason("http://e.org" + url)


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
    assert trap_reason("http://e.org" + url) is None


def test_a_query_that_grows_from_page_to_page() -> None:
    page = "http://e.org/shop?" + "&".join(f"f{n}=1" for n in range(7))
    assert growing_query(page, page + "&f8=1")
    assert (
        growing_query(page, page.replace("f1=1", "f1=2") + "&f8=1") is None
    )  # another selection, not this and one more
    assert growing_query("http://e.org/shop?f=1", "http://e.org/shop?f=1&page=2") is None
    assert growing_query(page, page.replace("shop", "other") + "&f8=1") is None


def test_families() -> None:
    same = {family(f"http://e.org/day/{date}") for date in ("2024-01-31", "1999/2/1", "20240131", "2024/11")}
    assert same == {"e.org/day/<date>"}
    assert family("http://e.org/p?a=1") == family("http://e.org/p?b=2") != family("http://e.org/q?a=1")
    assert family("http://e.org/2024/01/31/title") != family("http://e.org/2024/01/31/other")
    assert family("http://e.org/page/12") is None


@given(st.text(alphabet="/ab&?=%21-", max_size=300))
def test_trap_rules_take_any_url(tail: str) -> None:
    url = "http://e.org/" + tail
    trap_reason(url), family(url), growing_query(url, url + "&x=1")


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
