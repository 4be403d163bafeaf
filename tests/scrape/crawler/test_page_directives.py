"""What pages and sites say of themselves: robots directives, canonical links, sitemaps."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.scrape.crawler.canonical_links import canonical_duplicates, canonical_of
from tasks.scrape.crawler.links import page_of
from tasks.scrape.crawler.robots_meta import robots_directives
from tasks.scrape.crawler.sitemaps import read_sitemap
from tests.helpers.scraping import (
    outcomes,
    pages,
    scrape,
    web,
)
from tests.helpers.site_server import serve


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
    said = robots_directives("Textmill", tags, [], page)
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
    assert robots_directives("Textmill", [], links, page).canonical == canonical


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
    at_once = set(places) - set(canonical_duplicates(pointers, places))
    assert len(at_once) == len({canonical_of(key, pointers) for key in places})
    kept: set[str] = set()
    known: dict[str, str] = {}
    for key in order:  # as pages come in, with a fold after each
        kept.add(key)
        known |= {key: pointers[key]} if key in pointers else {}
        kept -= set(canonical_duplicates(known, sorted(kept)))
    assert kept == at_once


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
    try:
        found = read_sitemap(bomb.encode(), 9)
    except ValueError:
        found = ([], [])
    assert len(str(found)) < 1000


def test_missing_sitemap_is_told_and_no_harm(tmp_path: Path) -> None:
    with serve() as site:
        site.pages["/"] = "<p>home</p>"
        _, outputs = scrape(tmp_path, web(site, sitemaps=True))
        assert outcomes(site, outputs) == {"/": "saved", "/sitemap.xml": "http_404"}
