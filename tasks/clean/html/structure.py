"""What a page says by its structure alone, put into words before a text extractor flattens it, which else changes it.

An exponent says so (10^23, not 1023), a formula stands there once, an item of a list bears the number that the page gives
it, and a table has a cell in every place of its grid, so that values stay under their headers. The tree is changed in
place; what is left of the marks in the extracted text, `strip_marks` takes away.
"""

import re
from typing import Any

from tasks.clean.html.formulas import replace_formula

EMPTY = "\U0004fffe"
"""What an empty cell holds: a noncharacter, as in markdown.py."""
NUMBER = "\u2999"
"""Stands on both sides of the number of an item: a sign that is printed, for trafilatura drops all others."""
NUMBERED = re.compile(rf"(?:(?<!\d)\d+\. |- )?{NUMBER}(-?\d+){NUMBER}")
MAY_TELL = re.compile(r"<(?:su[bp]|math|table|ol\s|li\s)", re.IGNORECASE)
"""What pages have for which the tree is worth going through."""
TELLING = "sup, sub, math, table, ol[start], ol[reversed], ol:has(> li[value])"
LAYOUT = "table, h1, h2, h3, h4, h5, h6, ul, ol, dl, pre, blockquote, form, br ~ br ~ br"
"""With one of these inside, a table arranges a page: it has no columns."""
MAX_COLSPAN, MAX_EMPTY = 100, 10_000
"""Of a cell the columns, and of a table the cells that are put in: a few spans can ask for millions."""
SCRIPT = re.compile(r"[+−–-]?\w+")
STARTS_SCRIPT = "+-−–±("
ABBREVIATED = "aceo"
"""Letters that are written small and high at the end of a word (2e, no, Mc): no exponents."""
INLINE = ("a", "b", "em", "font", "i", "small", "span", "strong", "u", "var")


def mark_structure(tree: Any, html: str, precise: bool = False, markdown: bool = False) -> bool:
    """Change resiliparse's tree of a page for the tier and the format that follow; returns whether it had to be.

    trafilatura (`precise`) fills tables by itself and keeps exponents as tags in Markdown, but drops header cells that
    are named like buttons (Email, Print), and numbers every list from 1.
    """
    if tree.document is None or not MAY_TELL.search(html):
        return False
    found = tree.document.query_selector_all(TELLING)[:]  # to go through it otherwise is quadratic
    for element in found:
        match element.tag:
            case "sup" | "sub":
                if not (precise and markdown):
                    _put_script(tree, element)
            case "math":
                replace_formula(tree, element, dollars=markdown and not precise)
            case "table" if precise:
                for cell in element.query_selector_all("td, th")[:]:
                    cell.append(tree.create_text_node(EMPTY))
            case "table":
                _fill(tree, element)
            case _:
                _put_numbers(tree, element, precise)
    return bool(found)


def strip_marks(text: str) -> str:
    """The text without the marks."""
    return NUMBERED.sub(r"\1. ", text).replace(EMPTY, "")


def data_rows(table: Any) -> list[list[Any]]:
    """The cells of a table with columns, row by row; nothing for one that arranges a page."""
    if table.query_selector(LAYOUT) is not None:
        return []
    rows = [row.query_selector_all("td, th")[:] for row in table.query_selector_all("tr")[:]]
    rows = [cells for cells in rows if cells]
    return rows if len(rows) > 1 and max(map(len, rows)) > 1 else []


def _fill(tree: Any, table: Any) -> None:
    """Give each place of the grid a cell: empty ones for what a cell spans, and a mark for those that are empty.

    The grid is that of "forming a table" in HTML's standard (4.9.12.1): a cell takes the first place in its row that is free.
    """
    until: dict[int, int] = {}  # column: the first row below the cell that reaches into it from above
    rows = data_rows(table)
    put_in = 0
    for number, cells in enumerate(rows):
        if put_in > MAX_EMPTY:
            break
        column = 0
        for cell in cells:
            while until.get(column, 0) > number:
                cell.before(_empty_cell(tree))
                column += 1
            if not cell.text.strip():
                cell.append(tree.create_text_node(EMPTY))
            width = min(_number(cell, "colspan", 1) or 1, MAX_COLSPAN)
            height = _number(cell, "rowspan", 1) or len(rows)
            for _ in range(width - 1):
                cell.after(_empty_cell(tree))
            for spanned in range(column, column + width):
                until[spanned] = max(until.get(spanned, 0), number + height)
            column += width
        while until.get(column, 0) > number:
            cells[-1].parent.append(_empty_cell(tree))
            column += 1
        put_in += column - len(cells)


def _empty_cell(tree: Any) -> Any:
    cell = tree.create_element("td")
    cell.append(tree.create_text_node(EMPTY))
    return cell


def _number(element: Any, attribute: str, otherwise: int) -> int:
    value = (element.getattr(attribute) or "").strip()
    return int(value) if re.fullmatch("-?[0-9]{1,6}", value) else otherwise


def _put_numbers(tree: Any, ordered: Any, precise: bool) -> None:
    items = [child for child in ordered.child_nodes[:] if getattr(child, "tag", None) == "li"]
    step = -1 if ordered.hasattr("reversed") else 1
    number = _number(ordered, "start", len(items) if step < 0 else 1)
    for item in items:
        number = _number(item, "value", number)
        first = item
        while (inner := _first(first)) is not None:  # the item's own text may be a paragraph
            first = inner
        first.prepend(tree.create_text_node(f"{NUMBER}{number}{NUMBER}"))
        number += step
    if precise:
        plain = tree.create_element("ul")
        ordered.before(plain)
        for child in ordered.child_nodes[:]:
            plain.append(child)
        ordered.remove()


def _first(element: Any) -> Any:
    """The paragraph or division with which an element begins, if it does."""
    for child in element.child_nodes[:]:
        if getattr(child, "tag", None) in ("p", "div"):
            return child
        if child.text.strip():
            return None
    return None


def _put_script(tree: Any, element: Any) -> None:
    """Say what stands high with ^; what stands low with _ where it would else join a number (log_2 8)."""
    text, before, after = element.text.strip(), _neighbour(element, -1), _neighbour(element, 1)
    if not text or not before or before.isspace():
        return
    if not text[0].isalnum() and text[0] not in STARTS_SCRIPT:  # [1], ™, *
        return
    if text.isalpha() and (len(text) > 1 or text.lower() in ABBREVIATED):
        return
    high = element.tag == "sup"
    if not high and not before.isdigit() and not after.isdigit():
        return
    whole = SCRIPT.fullmatch(text) is not None and not after.isalnum()
    element.prepend(tree.create_text_node(("^" if high else "_") + ("" if whole else "(")))
    if not whole:
        element.append(tree.create_text_node(")"))


def _neighbour(element: Any, direction: int) -> str:
    """The character next to an element on its line, or nothing."""
    node, step = element, "previous_sibling" if direction < 0 else "next_sibling"
    while getattr(node, step) is None and node.parent is not None and node.parent.tag in INLINE:
        node = node.parent
    node = getattr(node, step)
    text = node.text if node is not None else ""
    return text[-1:] if direction < 0 else text[:1]
