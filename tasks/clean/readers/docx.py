"""DOCX (ISO 29500) by python-docx: paragraphs, lists, tables and footnotes in their order, written as HTML and extracted
as a page is, section by section.

The document's tree is walked here, for python-docx's own `Paragraph.text` passes over what stands in tracked insertions
and content controls.
"""

import html
from io import BytesIO
from typing import Any

from tasks.clean.html.extract import extract_with_resiliparse
from tasks.clean.readers.document_content import MAX_CHARACTERS, DocumentContent, UnreadableDocument, open_zip
from tasks.documents.sections import TextBuilder

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
GONE = {f"{W}del", f"{W}moveFrom", f"{W}rPr", f"{W}pPr", f"{W}rt", FALLBACK}
"""Deleted text, properties, readings above characters, and what stands there a second time for older programs."""
SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def read(body: bytes, format: str) -> DocumentContent:
    """The text of the document; headers and footers of its pages are left out.

    Raises:
        UnreadableDocument: corrupt_file, encrypted, decompression_bomb.
    """
    import docx

    open_zip(body).close()
    try:
        document = docx.Document(BytesIO(body))
        blocks = list(_blocks(document.element.body))
    except Exception as error:  # python-docx raises many kinds on packages that break the format
        raise UnreadableDocument("corrupt_file", f"no Word document: {error!r}"[:500]) from None
    writer = _Writer({style.style_id: (style.name or "").lower() for style in document.styles})
    built = TextBuilder(MAX_CHARACTERS)
    page: list[str] = []

    def finish() -> None:
        if page:
            built.add(extract_with_resiliparse(f"<body>{''.join(page)}</body>", False, (), format)[0])
            page.clear()

    for block in blocks:
        if block.tag == f"{W}p" and writer.level(block):
            finish()
            built.begin("sections", " ".join(_inline(block).split()))
        page.append(writer.block(block))
    page += [f"<p>[{name}] {text}</p>" for name, text in _notes(document)]
    finish()
    known = document.core_properties
    about = {"author": known.author, "created": known.created.isoformat() if known.created else ""}
    about = {name: value for name, value in about.items() if value}
    return DocumentContent(built.text, known.title or "", {**about, **built.offsets})


class _Writer:
    """Blocks as HTML. `styles`: id of a style → its name, in lower case and English in every edition of Word."""

    def __init__(self, styles: dict[str, str]) -> None:
        self._styles = styles

    def level(self, paragraph: Any) -> int:
        """1 to 6 of a heading, 0 of other paragraphs."""
        style = self._style(paragraph)
        outline = paragraph.find(f"{W}pPr/{W}outlineLvl")
        if style == "title" and _inline(paragraph).strip():
            return 1
        if style.startswith("heading ") and style[8:].isdecimal() and _inline(paragraph).strip():
            return min(int(style[8:]) or 1, 6)
        return (
            min(int(outline.get(f"{W}val")) + 1, 6) if outline is not None and outline.get(f"{W}val") in "012345" else 0
        )

    def block(self, block: Any) -> str:
        """A paragraph or table."""
        if block.tag == f"{W}tbl":
            return (
                f"<table>{''.join(self._row(row) for row in block.iter(f'{W}tr') if _table_of(row) is block)}</table>"
            )
        text = html.escape(_inline(block), quote=False)
        if level := self.level(block):
            return f"<h{level}>{text}</h{level}>"
        style = self._style(block)
        if "preformatted" in style or "code" in style:
            return f"<pre>{text}</pre>"
        text = text.replace("\n", "<br>")
        in_list = block.find(f"{W}pPr/{W}numPr") is not None or style.startswith("list ")
        return f"<ul><li>{text}</li></ul>" if in_list and text.strip() else f"<p>{text}</p>"

    def _row(self, row: Any) -> str:
        cells = []
        for cell in row.iter(f"{W}tc"):
            if _table_of(cell) is not _table_of(row):  # of a table inside a cell
                continue
            span = cell.find(f"{W}tcPr/{W}gridSpan")
            wide = f' colspan="{int(span.get(f"{W}val"))}"' if span is not None else ""
            whole = (p for p in cell.iter(f"{W}p") if next(p.iterancestors(f"{W}p"), None) is None)  # not of text boxes
            texts = [html.escape(_inline(paragraph), quote=False) for paragraph in whole]
            cells.append(f"<td{wide}>{'<br>'.join(filter(None, texts))}</td>")
        return f"<tr>{''.join(cells)}</tr>"

    def _style(self, paragraph: Any) -> str:
        style = paragraph.find(f"{W}pPr/{W}pStyle")
        return self._styles.get(style.get(f"{W}val"), "") if style is not None else ""


def _blocks(parent: Any) -> Any:
    """The paragraphs and tables in a body, those in content controls and tracked changes too."""
    for child in parent.iterchildren():
        if child.tag in (f"{W}p", f"{W}tbl"):
            yield child
        elif child.tag not in GONE and isinstance(child.tag, str):
            yield from _blocks(child)


def _table_of(element: Any) -> Any:
    return next(element.iterancestors(f"{W}tbl"), None)


def _inline(element: Any) -> str:
    """The text of a paragraph as it reads with its tracked changes accepted; that of a text box stands on lines of its own."""
    parts: list[str] = []
    for child in element.iterchildren():
        if child.tag in GONE or not isinstance(child.tag, str):
            continue
        name = child.tag.removeprefix(W)
        if name == "t":
            parts.append(child.text or "")
        elif name in SIGNS:
            parts.append(SIGNS[name])
        elif name in ("footnoteReference", "endnoteReference"):
            parts.append(f"[{child.get(f'{W}id')}]")
        elif name == "txbxContent":
            parts += ["\n", *(f"{_inline(paragraph)}\n" for paragraph in child.iterchildren(f"{W}p"))]
        else:
            parts.append(_inline(child))
    return "".join(parts)


def _notes(document: Any) -> list[tuple[str, str]]:
    """Number and text of the footnotes and endnotes."""
    from docx.oxml import parse_xml

    found = []
    for relation in document.part.rels.values():
        kind = relation.reltype.rpartition("/")[2]
        if kind in ("footnotes", "endnotes") and not relation.is_external:
            for note in parse_xml(relation.target_part.blob).iterchildren(f"{W}{kind[:-1]}"):
                text = "\n".join(_inline(paragraph) for paragraph in note.iter(f"{W}p")).strip()
                if note.get(f"{W}type") in (None, "normal") and text:
                    found.append((note.get(f"{W}id"), html.escape(text, quote=False)))
    return found
