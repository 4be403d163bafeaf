"""Markdown by way of plain text: marks are put into the tree, the plain-text extractor runs, marks become Markdown.

What is main content, what is hidden and where lines end is thus decided by the same rules for both formats, and both
say the same words. Headings (#), nested lists, tables (GitHub's pipes), code blocks and inline code are kept; of a link
its text. Emphasis is not marked, and what only looks like Markdown is not escaped: it is text for a model, not a renderer.
"""

import re
from collections.abc import Iterator
from typing import Any

from tasks.clean.html.structure import data_rows

PRE, END_PRE, HEADER, CELL, END_ROW, GUARD = MARKS = "\U0001fffe\U0001ffff\U0002fffe\U0002ffff\U0003fffe\U0003ffff"
"""Noncharacters, which Unicode keeps for a program's own use (section 23.7), so no text has them for good reason.

They take four bytes of UTF-8: in main content resiliparse 2.0.1 drops what stands alone in three, such as a guillemet.
"""

CODE_BLOCK = re.compile(f"(?<! )( *){PRE}([^{PRE}{END_PRE}]*){END_PRE}")
ROW = f"[^{HEADER}{END_ROW}]*{END_ROW}"
TABLE = re.compile(f"(?<!\\s)\\s*[{HEADER}{CELL}](?:{ROW}(?:\\s*{CELL}{ROW})*|[^{HEADER}{END_ROW}]*)")
"""The lookbehinds make both linear, as does that a row without an end is passed over whole: nothing is looked at twice."""
LIST_ITEM = re.compile(r"(?:  )+(•|\d+\.)( .*)?")
REST = str.maketrans("", "", MARKS)


def mark_markdown(tree: Any) -> None:
    """Mark what Markdown has marks for in resiliparse's tree, which `mark_structure` has prepared, in place."""

    def enclose(element: Any, before: str, after: str = "") -> None:
        element.prepend(tree.create_text_node(before))
        if after:
            element.append(tree.create_text_node(after))

    def chosen(selectors: str) -> list[Any]:
        found: list[Any] = tree.document.query_selector_all(selectors)[:]  # to go through it otherwise is quadratic
        return found

    for heading in chosen("h1, h2, h3, h4, h5, h6"):
        if heading.text.strip():
            enclose(heading, GUARD + "#" * int(heading.tag[1]) + " ")
    for block in chosen("pre"):
        enclose(block, PRE, END_PRE)
    for code in chosen("code:not(pre code)"):
        if (text := code.text).strip() and code.query_selector("br, p, div") is None:
            fence, pad = _fence(text, 1), " " if "`" in text else ""
            enclose(code, GUARD + fence + pad, GUARD + pad + fence)
    for table in chosen("table"):
        _mark_table(table, enclose)


def _mark_table(table: Any, enclose: Any) -> None:
    for number, cells in enumerate(data_rows(table)):
        for place, cell in enumerate(cells):
            enclose(cell, CELL if number or place else HEADER, END_ROW if place == len(cells) - 1 else "")


def _fence(text: str, least: int) -> str:
    """Backticks, more of them than stand together in the text."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def render_markdown(text: str) -> str:
    """The Markdown of what the plain-text extractor made of a marked tree."""
    widths: list[int] = []
    out: list[str] = []
    parts = CODE_BLOCK.split(text)
    for at in range(0, len(parts), 3):  # text, then the indentation of a code block, and the block
        out += _lines(TABLE.sub(_table, parts[at]).translate(REST), widths)
        if at + 2 < len(parts) and (code := parts[at + 2].strip("\n")).strip():
            indent = _indent(len(parts[at + 1]), widths)
            fence = _fence(code, 3)
            out += ["", *(indent + line for line in (fence, *code.split("\n"), fence)), ""]
    return re.sub("\n\n\n+", "\n\n", "\n".join(out)).strip("\n")


def _lines(text: str, widths: list[int]) -> Iterator[str]:
    """Lines with lists as CommonMark nests them: what belongs to an item begins where the item's own text begins.

    The extractor indents an item at depth d by 2d spaces, and its further lines by 2d + 2. `widths` are those of the
    marks ("- ", "10. ") of the items that are open.
    """
    for line in text.split("\n"):
        if item := LIST_ITEM.fullmatch(line):
            depth = item.start(1) // 2 - 1
            widths[depth:] = [0] * (depth - len(widths))  # a list straight in a list skips a depth
            mark = "- " if item[1] == "•" else f"{item[1]} "
            yield " " * sum(widths) + mark + (item[2] or "").lstrip()
            widths.append(len(mark))
        elif bare := line.lstrip(" "):
            open_items = len(widths)
            indent = _indent(len(line) - len(bare), widths)
            if len(widths) < open_items:
                yield ""  # else it would go on the item that has ended
            yield indent + bare
        else:
            yield ""


def _indent(spaces: int, widths: list[int]) -> str:
    """The indentation of a line that the extractor indents by `spaces`; where that is none, all items are closed."""
    del widths[max(0, spaces // 2 - 1) :]
    return " " * sum(widths)


def _table(found: re.Match[str]) -> str:
    if not found[0].endswith(END_ROW):
        return found[0]
    indent = found[0][: len(found[0]) - len(found[0].lstrip())].rpartition("\n")[2]
    rows = [re.split(f"[{HEADER}{CELL}]", row)[1:] for row in found[0].split(END_ROW)[:-1]]
    head, *lines = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    width = max(map(len, rows))
    head += [""] * (width - len(head))
    return "\n\n" + "".join(f"{indent}| {' | '.join(line)} |\n" for line in (head, ["---"] * width, *lines)) + "\n"
