"""What the crawler reads in a page: its links, and what it says about itself."""

from dataclasses import dataclass, field

from tasks.web.answer import HTML_TYPES, Answer
from tasks.web.directives import Directives, directives
from tasks.web.frontier import Link
from tasks.web.links import Scope, links_in, page_of


@dataclass(frozen=True)
class Reading:
    """`links`: to be entered, those that the page asks not to follow too; `canonical`: key of the URL that it names.

    `noindex`: where the page asks not to be kept, or None; `problem`: why its links could not be read, or None.
    """

    links: list[Link] = field(default_factory=list)
    noindex: str | None = None
    canonical: str | None = None
    problem: str | None = None


def read_page(url: str, answer: Answer, scope: Scope, agent: str) -> Reading:
    """Read the page at `url`; a page whose HTML cannot be read still has what its headers say."""
    tags, link_headers = answer.every("x-robots-tag"), answer.every("link")
    said: Directives | None = None
    links: list[Link] = []
    problem = None
    if answer.media_type in HTML_TYPES:
        try:
            page = page_of(url, {"Content-Type": answer.header("content-type")}, answer.body)
            said = directives(agent, tags, link_headers, page)
            links = list(links_in(page, scope))
        except Exception as error:  # lxml and the decoders fail in many ways; the page itself is kept
            problem = f"links cannot be read: {error!r}"
    said = said or directives(agent, tags, link_headers)
    if said.nofollow:
        detail = f"the pages that link here say {said.nofollow}"
        links = [link if link.excluded else link._replace(excluded=detail, outcome="nofollow") for link in links]
    canonical = scope.canonical(url, said.canonical)
    if canonical is not None and not said.nofollow:
        links.append(canonical)
    return Reading(links, said.noindex, canonical.key if canonical else None, problem)
