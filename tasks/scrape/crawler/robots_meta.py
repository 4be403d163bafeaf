"""Robots meta: what a page says about itself to crawlers; the robots meta element and header, and the canonical link (RFC 6596)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# noai: not to be used for training (DeviantArt, 2022). A corpus is nothing else.
NOINDEX = ("noindex", "none", "noai")
NOFOLLOW = ("nofollow", "none")
# Possessive: no character is looked at again and again, whatever a server sends.
MAX_LINKS = 1000
"""Elements of a head that are looked at."""
LINK = re.compile(r"<([^<>]*+)>((?:\s*+;\s*+[\w!#$&+.^`|~*-]++\s*+(?:=\s*+(?:\"[^\"]*+\"|[^\s\";,]++))?+)*+)")
RELATION = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s\";,]+))", re.IGNORECASE)


@dataclass(frozen=True)
class RobotsDirectives:
    """`noindex`, `nofollow`: the directive and where it stands, or None. `canonical`: absolute or relative, or None."""

    noindex: str | None = None
    nofollow: str | None = None
    canonical: str | None = None


def robots_directives(
    agent: str, robots_tags: Sequence[str], links: Sequence[str], page: Any = None
) -> RobotsDirectives:
    """Read X-Robots-Tag and Link headers and, of an HTML page, its elements (an HtmlPage).

    `agent` is the crawler's product token: directives for it alone count as well. Canonical links that contradict each
    other say nothing.
    """
    said = [(f"X-Robots-Tag: {word}", word) for word in _tag_words(robots_tags, agent)]
    canonicals = [target for target, relation in _links(links) if "canonical" in relation.lower().split()]
    if page is not None:
        for element in page.xpath("//meta[@name and @content]"):
            name = element.attrib["name"].strip().lower()
            if name in ("robots", agent.lower()):
                said += [(f"meta {name}: {word}", word) for word in _words(element.attrib["content"])]
        canonicals += [
            page.urljoin(link.attrib["href"].strip())
            for link in page.xpath("//head//link[@rel and @href]")[
                :MAX_LINKS
            ]  # in the body anybody could have written it
            if "canonical" in link.attrib["rel"].lower().split()
        ]
    distinct = list(dict.fromkeys(canonicals))
    return RobotsDirectives(
        next((where for where, word in said if word in NOINDEX), None),
        next((where for where, word in said if word in NOFOLLOW), None),
        distinct[0] if len(distinct) == 1 else None,
    )


def _words(value: str) -> list[str]:
    return [word.strip().lower() for word in value.split(",")]


def _tag_words(values: Iterable[str], agent: str) -> Iterator[str]:
    """The directives for all crawlers and for `agent`: `noindex, otherbot: nofollow` is one for all and one for another."""
    for value in values:
        whom = ""
        for word in _words(value):
            name, colon, rest = word.partition(":")
            if colon and name.strip() not in (
                "unavailable_after",
                "max-snippet",
                "max-image-preview",
                "max-video-preview",
            ):
                whom, word = name.strip(), rest.strip()
            if whom in ("", agent.lower()):
                yield word


def _links(values: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(target, relation) of each link in Link headers (RFC 8288, 3)."""
    for value in values:
        for target, options in LINK.findall(value):
            relation = RELATION.search(options)
            if relation:
                yield target.strip(), relation.group(1) or relation.group(2) or ""
