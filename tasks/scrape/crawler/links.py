"""Links of a page, and which of them the crawl follows."""

import re
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from scrapy.linkextractors import IGNORED_EXTENSIONS
from w3lib.url import canonicalize_url, safe_url_string

from tasks.scrape.crawler.frontier import Link
from tasks.scrape.crawler.html_page import MAX_URL_LENGTH, HtmlPage
from tasks.scrape.crawler.traps import family, growing_query, trap_reason
from tasks.scrape.sources import WebSource

MAX_LINKS = 20_000
"""Of one page, in its order: a sitemap is for more."""
LEAST_CHARACTERS, MOST_SWELLING = 1 << 16, 8
"""What the links of a page may be written out: 64 Ki characters, or eight for each of its bytes. Short links under a
long base would fill the disk."""
BINARY = frozenset(f".{extension}" for extension in IGNORED_EXTENSIONS)


class Scope:
    """What belongs to a crawl: the rules of its source, as a decision on URLs."""

    def __init__(self, source: WebSource) -> None:
        self._allow = [re.compile(pattern) for pattern in source.allow]
        self._deny = [re.compile(pattern) for pattern in source.deny]
        self._follows_canonical = source.canonical
        self._hosts = {_host(url) for url in source.start}
        self._binary = BINARY - {".pdf"} if source.pdf else BINARY

    def link(self, url: str) -> Link:
        """The link to `url`; its key is the canonical URL (w3lib): fragment dropped, query sorted, escapes normalised.

        A login in it is dropped: it is somebody's, and would be kept with the page.
        """
        url = safe_url_string(url).partition("#")[0]
        if "@" in (login := urlsplit(url).netloc):
            url = url.replace(f"//{login}", f"//{login.rpartition('@')[2]}", 1)
        key, excluded = canonicalize_url(url), self._excluded(url)
        caught = None if excluded else trap_reason(url)
        return Link(key, url, excluded or caught, "trap" if caught else "excluded", family(key))

    def start(self, url: str) -> Link:
        """A start URL: part of the crawl whatever the patterns say."""
        return self.link(url)._replace(excluded=None)

    def on_start_host(self, url: str) -> bool:
        """Whether `url` lies on the host of a start URL."""
        try:
            return _host(url) in self._hosts
        except ValueError:
            return False

    def canonical(self, page: str, named: str | None) -> Link | None:
        """The canonical URL that `page` names, if it is another one, on the same host, and part of the crawl."""
        if not named or not self._follows_canonical:
            return None
        try:
            link = self.link(urljoin(page, named))
            same_host = _host(link.url) == _host(page)
        except ValueError:
            return None
        return link if same_host and not link.excluded and link.key != canonicalize_url(page) else None

    def _excluded(self, url: str) -> str | None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            return "no http URL"
        if len(url) > MAX_URL_LENGTH:
            return f"longer than {MAX_URL_LENGTH} characters"
        if not self._allow and _host(url) not in self._hosts:
            return "another host than the start's"
        if self._allow and not any(pattern.search(url) for pattern in self._allow):
            return "no pattern of allow fits"
        for pattern in self._deny:
            if pattern.search(url):
                return f"deny: {pattern.pattern}"
        if any(parts.path.lower().endswith(extension) for extension in self._binary):
            return "the suffix is that of no text"
        return None


def _host(url: str) -> str:
    """Host and port; a site with and without `www.` is the same site."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].lower().removeprefix("www.")


def page_of(url: str, headers: Mapping[str, str], body: bytes) -> HtmlPage:
    """The HTML page `body` at `url`, to be parsed once for all that is read in it."""
    return HtmlPage(url, headers, body)


def links_of(url: str, headers: Mapping[str, str], body: bytes, scope: Scope) -> list[Link]:
    """The links of the HTML page `body` at `url`, in the order of the page."""
    return page_links(page_of(url, headers, body), scope)[0]


def page_links(page: HtmlPage, scope: Scope) -> tuple[list[Link], str | None]:
    """The links of a page, in its order, and what was left out of them: too long ones, and those beyond the bounds.

    Raises:
        ValueError: they cannot be told.
    """
    links: dict[str, Link] = {}
    room = max(LEAST_CHARACTERS, MOST_SWELLING * page.size)
    too_long = beyond = 0
    for address in page.raw_addresses():
        if len(links) >= MAX_LINKS or room <= 0:
            beyond += 1
            continue
        url = page.absolute(address)
        if url is not None and len(url) > MAX_URL_LENGTH:
            too_long += 1
        elif url is not None and url not in links:
            room -= len(url)
            links[url] = _link(page.url, url, scope)
    said = [f"{too_long:,} longer than {MAX_URL_LENGTH:,} characters"] * bool(too_long)
    said += [f"{beyond:,} beyond the first {len(links):,}"] * bool(beyond)
    return list(links.values()), f"links left out: {', '.join(said)}" if said else None


def _link(page: str, url: str, scope: Scope) -> Link:
    try:
        link = scope.link(url)
    except ValueError:  # not even a URL, such as http://[
        link = Link(url, url, "no valid URL")
    caught = None if link.excluded else growing_query(page, link.url)
    return link._replace(excluded=caught, outcome="trap") if caught else link
