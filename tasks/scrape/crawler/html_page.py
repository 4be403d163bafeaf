"""An HTML page as a crawler sees it: parsed once for all that is read in it, with the addresses that it names."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

from parsel import Selector
from w3lib.html import strip_html5_whitespace
from w3lib.url import safe_url_string

from tasks.formats.encodings.decode import decode_page
from tasks.http.response import charset_of

ADDRESS_IN = {"a": "href", "area": "href", "frame": "src", "iframe": "src"}
MAX_URL_LENGTH = 2000
"""Beyond lie session state and traps."""
SCHEMES = ("http://", "https://", "file://", "ftp://")
# HTML Living Standard, 4.2.5.3: shared declarative refresh steps
REFRESH = re.compile(
    r"\s*+(?:\d++[\d.]*+|\.[\d.]*+)(?:\s*+[;,]\s*+|\s++)(?:url\s*+=\s*+)?(?:\"([^\"]*+)|'([^']*+)|(.*+))",
    re.IGNORECASE | re.DOTALL,
)


class HtmlPage:
    """The page `body` at `url`. `base`: what its relative addresses are relative to, by the first `base` element;
    `size`: of the body, in bytes.
    """

    def __init__(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        decoded = decode_page(body, charset_of(headers.get("Content-Type", "")))
        self.url, self.base, self.size = url, url, len(body)
        # Queries are written in the page's encoding (HTML Living Standard, 2.4.2), but for those of wide units.
        self._encoding = "utf-8" if decoded.encoding.startswith("utf") else decoded.encoding
        self._tree = Selector(text=decoded.text, type="html")
        for element in self._tree.root.iter("base"):
            if "href" in element.attrib:
                self.base = self.absolute(element.attrib["href"]) or url
                break

    def xpath(self, query: str) -> Any:
        """The elements that the query selects (parsel)."""
        return self._tree.xpath(query)

    def urljoin(self, address: str) -> str:
        """An address in the page as an absolute URL.

        Raises:
            ValueError: it is none.
        """
        return urljoin(self.base, address)

    def absolute(self, address: str) -> str | None:
        """An address in the page as it is to be asked for; None if it is no URL of a file."""
        try:
            url = self.urljoin(strip_html5_whitespace(address))
            url = safe_url_string(url, encoding=self._encoding)
        except UnicodeEncodeError:
            url = safe_url_string(url)
        except ValueError:
            return None
        return url if url.startswith(SCHEMES) else None

    def addresses(self) -> Iterator[str]:
        """The URLs of links, frames and of what a refresh leads to, without fragments, each once, in the order of the page.

        Raises:
            ValueError: all that is relative would be longer than MAX_URL_LENGTH.
        """
        yield from dict.fromkeys(url for address in self.raw_addresses() if (url := self.absolute(address)) is not None)

    def raw_addresses(self) -> Iterator[str]:
        """These addresses as they stand in the page, each once.

        Raises:
            ValueError: all that is relative would be longer than MAX_URL_LENGTH.
        """
        if len(self.base) > MAX_URL_LENGTH:
            raise ValueError(f"the base of its addresses is longer than {MAX_URL_LENGTH} characters")
        seen = set[str]()
        without_scripts = {meta for element in self._tree.root.iter("noscript") for meta in element.iter("meta")}
        for element in self._tree.root.iter(*ADDRESS_IN, "meta"):
            if element.tag == "meta":
                address = None if element in without_scripts else _refresh(element.attrib)
            else:
                address = element.attrib.get(ADDRESS_IN[element.tag])
            if address is not None and (address := address.partition("#")[0]) not in seen:
                seen.add(address)
                yield address


def _refresh(meta: Mapping[str, str]) -> str | None:
    """Where a `meta` element leads to that stands for a Refresh header."""
    if meta.get("http-equiv", "").strip().lower() != "refresh":
        return None
    found = REFRESH.match(meta.get("content", ""))
    return next((group for group in found.groups() if group), None) if found else None
