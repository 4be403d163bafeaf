"""Sitemaps (sitemaps.org, protocol 0.9): the pages that a site names itself, within bounds."""

import io
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from tasks.http import content_encoding
from tasks.scrape.crawler.fetch_result import FetchResult
from tasks.scrape.crawler.frontier import Link, Outcome
from tasks.scrape.crawler.html_page import MAX_URL_LENGTH
from tasks.scrape.crawler.links import Scope
from tasks.scrape.crawler.side_thread import run_in_thread

MAX_BYTES = 52_428_800  # of one file, unpacked: the protocol's limit
MAX_FILES = 100
MAX_URLS = 200_000  # over all files; the protocol allows 50,000 in each
MAX_CHARACTERS = 40_000_000  # of these URLs together
MAX_NAMED = 1000  # sitemaps that others name
MAX_REDIRECTS = 5


def read_sitemap(body: bytes, limit: int) -> tuple[list[str], list[str]]:
    """(pages, further sitemaps) that a sitemap names: XML, an index, or a URL a line; gzip or not. At most `limit` of each.

    XML is read up to its first error, what comes before it counts; entities are never resolved.

    Raises:
        content.TooLarge, content.Undecodable: of a compressed file.
        ValueError: it is neither a sitemap nor a list of URLs.
    """
    from lxml import etree  # type: ignore[import-untyped]

    if body.startswith(b"\x1f\x8b"):
        body = content_encoding.decode_content(body, "gzip", MAX_BYTES)
    text = body.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text.startswith(b"<"):
        lines = [line.strip() for line in body.decode("utf-8-sig", "replace").splitlines()]
        if not any(line.startswith(("http://", "https://")) for line in lines):
            raise ValueError("neither XML nor a list of URLs")
        return [line for line in lines if line][:limit], []
    pages: list[str] = []
    sitemaps: list[str] = []
    root = ""
    try:
        for event, element in etree.iterparse(
            io.BytesIO(text), events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False
        ):
            name = etree.QName(element).localname if isinstance(element.tag, str) else ""
            if event == "start":
                root = root or name
                continue
            if name == "loc":
                parent = element.getparent()
                kind = etree.QName(parent).localname if parent is not None else ""
                found = {"url": pages, "sitemap": sitemaps}.get(kind)  # not the loc of an image or a video
                if found is not None and len(found) < limit and element.text and element.text.strip():
                    found.append(element.text.strip())
            elif name in ("url", "sitemap"):
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
    except etree.XMLSyntaxError as error:
        if not pages and not sitemaps:
            raise ValueError(f"broken XML: {error.msg}") from None
    if root not in ("urlset", "sitemapindex"):
        raise ValueError(f"the root element is {root!r}, not urlset or sitemapindex")
    return pages, sitemaps


async def collect_sitemaps(
    starts: Iterable[tuple[str, str]], fetch: Callable[[str], Awaitable[FetchResult]], scope: Scope
) -> tuple[list[tuple[Link, Outcome]], list[Link]]:
    """Read sitemaps and those that they name; returns each file with what became of it, and the pages' links, in order.

    `starts`: (URL, where it was found). A sitemap that another one names must lie on a start's host.
    """
    waiting = deque((_link(url, scope), where) for url, where in dict(starts).items())
    seen = {file.key for file, _ in waiting}
    files: list[tuple[Link, Outcome]] = []
    links: dict[str, Link] = {}
    asked, room = 0, MAX_CHARACTERS
    while waiting:
        file, origin = waiting.popleft()
        if asked >= MAX_FILES or len(links) >= MAX_URLS or room <= 0:
            most = f"{MAX_FILES} sitemaps, {MAX_URLS} pages or {MAX_CHARACTERS} characters of their URLs"
            files.append((file, Outcome("sitemap_limit", f"more than {most}")))
            continue
        if not file.url.startswith(("http://", "https://")):
            files.append((file, Outcome("excluded", "sitemap: no http URL")))
            continue
        asked += 1
        result = await _followed(file.url, fetch)
        if result.outcome.name != "saved":
            detail = f"sitemap, named by {origin}" + (f": {result.outcome.detail}" if result.outcome.detail else "")
            files.append((file, replace(result.outcome, detail=detail)))
            continue
        limit = MAX_URLS - len(links)
        try:
            pages, sitemaps = await run_in_thread(read_sitemap, result.body, limit)
        except (ValueError, content_encoding.TooLarge, content_encoding.Undecodable) as error:
            detail = str(error) or f"more than {MAX_BYTES} bytes"
            files.append((file, replace(result.outcome, name="sitemap_unreadable", detail=detail)))
            continue
        unread = limit in (len(pages), len(sitemaps))
        for link in await run_in_thread(_links, pages, scope):
            if room > 0 and link.key not in links:
                links[link.key] = link
                room -= len(link.url)
        for child in await run_in_thread(_links, sitemaps[:MAX_NAMED], scope):
            if child.key in seen:
                continue
            if len(seen) >= MAX_NAMED:
                unread = True
                break
            seen.add(child.key)
            if scope.on_start_host(child.url):
                waiting.append((child, file.url))
            else:
                files.append((child, Outcome("excluded", "sitemap: another host than the start's")))
        too_long = sum(len(url) > MAX_URL_LENGTH for url in pages)
        detail = (
            f"{len(pages)} pages, {len(sitemaps)} sitemaps"
            + f", {too_long} of a URL longer than {MAX_URL_LENGTH} characters" * bool(too_long)
            + ", the rest unread" * (unread or room <= 0 or len(sitemaps) > MAX_NAMED)
        )
        files.append((file, replace(result.outcome, name="sitemap", detail=detail)))
    return files, list(links.values())


def _links(urls: Iterable[str], scope: Scope) -> list[Link]:
    return [_link(url, scope) for url in urls if len(url) <= MAX_URL_LENGTH]


def _link(url: str, scope: Scope) -> Link:
    try:
        return scope.link(url)
    except ValueError:
        return Link(url, url, "no valid URL")


async def _followed(url: str, fetch: Callable[[str], Awaitable[FetchResult]]) -> FetchResult:
    for _ in range(MAX_REDIRECTS + 1):
        result = await fetch(url)
        if result.redirect_target is None:
            return result
        url = result.redirect_target
    return replace(result, outcome=replace(result.outcome, name="too_many_redirects"))
