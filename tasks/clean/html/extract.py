"""Text out of pages: the character encoding found, then the main content of the HTML (resiliparse or trafilatura)."""

import codecs
import re
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from tasks.clean.html import markdown, structure
from tasks.core.errors import UserError
from tasks.formats.encodings.decode import decode_page

HTML_TYPES = ("text/html", "application/xhtml+xml")
PLAIN_TYPES = ("text/plain", "text/markdown", "text/x-rst")
NEGLIGIBLE = 0.01
LONG_TAG = 4000
MAX_COMPLEXITY = 2000
"""Parsing takes time with the square of it: a page of 100,000 elements in one another took six minutes."""
TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]{0,40})")
RAW_TEXT = {"script", "style", "textarea", "title", "noscript"}
UNNESTED = frozenset(  # void elements, and those whose end tag may be left out (HTML Living Standard, 13.1.2)
    (
        *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"),
        *("p", "li", "dt", "dd", "rt", "rp", "tr", "td", "th", "tbody", "thead", "tfoot", "colgroup"),
        *("html", "head", "body"),
    )
)


def media_type(declared: str, body: bytes) -> str:
    """The declared type; where none is declared, HTML if the body begins like it, else plain text."""
    if declared:
        return declared
    start = body.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    return HTML_TYPES[0] if start == b"<" else PLAIN_TYPES[0]


def decode(body: bytes, charset: str = "") -> str:
    """Bytes to text, as `decode_page` finds the encoding."""
    return decode_page(body, charset).text


def complexity(html: str) -> int:
    """How deeply elements are nested, at most, or how many attributes an element has, if that is more.

    Elements whose end is implied by what follows do not count.
    """
    level = deepest = at = end_of_tag = 0
    while tag := TAG.search(html, at):
        closing, name = tag.group(1), tag.group(2).lower()
        at = tag.end()
        if at > end_of_tag:  # else it lies in a tag that is long, and counted
            end_of_tag = found if (found := html.find(">", at)) >= 0 else len(html)
            if end_of_tag - at > LONG_TAG:
                deepest = max(deepest, len(html[at:end_of_tag].split()))
                if deepest > MAX_COMPLEXITY:
                    break
        if name in RAW_TEXT and not closing:  # what looks like a tag in there is none
            end = html.find(f"</{tag.group(2)}", at)
            if end < 0:
                break
            at = end + 2 + len(name)
        elif name not in UNNESTED:
            level = max(0, level - (name != "option")) if closing else level + 1  # options: as many, as slow
            deepest = max(deepest, level)
    return deepest


def is_simple(html: str) -> bool:
    """Whether `complexity` is at most MAX_COMPLEXITY for sure: there are no more tags, and each soon ends. Quick to tell."""
    return html.count("<") <= MAX_COMPLEXITY and max(map(len, html.split(">"))) <= LONG_TAG


def is_too_complex(html: str) -> bool:
    """Whether parsing it would take too long."""
    return not is_simple(html) and complexity(html) > MAX_COMPLEXITY


def extract_with_resiliparse(
    html: str, main_content: bool, skip_elements: Sequence[str], format: str = "text"
) -> tuple[str, str]:
    """Text and title of a page. Lines, lists, tables and preformatted text keep their shape; in Markdown also their marks.

    `main_content` leaves out navigation and the like by resiliparse's heuristics (bulleted lists fewer than four levels
    below the body, too); `skip_elements` are CSS selectors of what else to leave out. Where the heuristics find nothing
    worth mentioning (less than 1% of the characters) the whole text is taken: inside running text they drop what stands
    between two links, such as a comma or an article.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    title = " ".join((tree.title or "").split())
    marked = structure.mark_structure(tree, html, markdown=format == "markdown")
    extract = partial(extract_plain_text, tree, preserve_formatting=True, skip_elements=list(skip_elements) or None)
    text: str = extract(main_content=False)
    main: str = extract(main_content=True) if main_content else text
    only_main = len(main) < (1 - NEGLIGIBLE) * len(text)
    if format == "markdown":
        markdown.mark_markdown(tree)
        text = extract(main_content=only_main)
    elif only_main:
        text = main
    # Without <pre> a tab can only be the border of two table cells.
    if "\t" in text and "<pre" not in html and "<PRE" not in html:
        text = re.sub(r"(?<=\S)\t+(?=\S)", "\t", text)
        text = re.sub(r"^[ \xa0]*\t+|(?<=\xa0)\t+", "", text, flags=re.MULTILINE)
    if marked:
        text = structure.strip_marks(text)
    return markdown.render_markdown(text) if format == "markdown" else text, title


class ExtractionOptions(NamedTuple):
    """How to extract: the tier (fast, precise), the format (text, markdown), and what to leave out."""

    extraction: str = "fast"
    format: str = "text"
    main_content: bool = True
    skip_elements: Sequence[str] = ()


def extract_page(html: str, options: ExtractionOptions) -> tuple[str, str]:
    """Text and title of a page, as `how` says."""
    if options.extraction == "precise":
        return extract_with_trafilatura(html, options.format, options.skip_elements)
    return extract_with_resiliparse(html, options.main_content, options.skip_elements, options.format)


def extract_with_trafilatura(html: str, format: str, skip_elements: Sequence[str]) -> tuple[str, str]:
    """Main text and title of a page by trafilatura (Barbaresi 2021, ACL demo 15), with its tables, without comments.

    In Markdown headings, lists, tables and code keep their marks. Where trafilatura finds no main text, there is none.
    """
    import trafilatura
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    title = " ".join((tree.title or "").split())
    if skip_elements and tree.document is not None:
        for selector in skip_elements:
            for element in tree.document.query_selector_all(selector)[:]:  # otherwise quadratic
                element.decompose()
    if structure.mark_structure(tree, html, precise=True, markdown=format == "markdown") or skip_elements:
        html = str(tree)
    text = trafilatura.extract(
        html,
        output_format="markdown" if format == "markdown" else "txt",
        include_formatting=format == "markdown",
        include_tables=True,
        include_comments=False,
        deduplicate=False,  # its memory of earlier pages would make the result depend on their order
    )
    return structure.strip_marks(text or ""), title


def check_selectors(selectors: Sequence[str], where: str) -> None:
    """Try each CSS selector.

    Raises:
        UserError: one is no valid selector.
    """
    from resiliparse.extract.html2text import extract_plain_text

    for selector in selectors:
        try:
            extract_plain_text("<p>", skip_elements=[selector])
        except ValueError as error:
            raise UserError(f"{where}: {selector!r} is no CSS selector ({error})") from None
