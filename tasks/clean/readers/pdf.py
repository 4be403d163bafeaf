"""PDF (ISO 32000) by pypdfium2, Chromium's reader: the text layer page by page, with the page and its place in the outline."""

import re
from typing import Any

from tasks.clean.readers.document_content import MAX_CHARACTERS, DocumentContent, UnreadableDocument
from tasks.documents.sections import TextBuilder

ENDS = re.compile(r"[.!?:;。！？…][\"'”’»)\]]*\s*$")
LINE_HYPHEN = re.compile("[\x02\ufffe]\\s*")
"""What PDFium writes for a hyphen at the end of a line, where the word goes on in the next."""
PASSWORD, SECURITY = 4, 5
"""FPDF_GetLastError: a password is wanted; a scheme of security is not known."""
NAMES = {"Author": "author", "Subject": "subject", "Keywords": "keywords"}
DATE = re.compile(r"D:(\d{4})(\d\d)(\d\d)")


def read(body: bytes, format: str) -> DocumentContent:
    """The text of all pages. Pages without text (pictures, scans) and damaged ones are counted in `about`.

    Raises:
        UnreadableDocument: encrypted, corrupt_file, no_text_layer.
    """
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(body)
        pages = len(pdf)
    except pypdfium2.PdfiumError as error:
        reason = "encrypted" if getattr(error, "err_code", None) in (PASSWORD, SECURITY) else "corrupt_file"
        raise UnreadableDocument(reason, str(error)) from None
    outline = _outline(pdf)
    built = TextBuilder(MAX_CHARACTERS)
    empty = damaged = 0
    separator = "\n\n"
    for number in range(pages):
        text = _page_text(pdf, number)
        damaged += text is None
        empty += text == ""
        built.begin("pages", pdf.get_page_label(number) or str(number + 1))
        for title in outline.get(number, ()):
            built.begin("sections", title, _line_with(title, text or ""))
        built.add(text or "", separator)
        if text:  # a sentence that goes on over the page
            separator = "\n\n" if ENDS.search(text) else "\n"
    if damaged and damaged + empty == pages:
        raise UnreadableDocument("corrupt_file", f"none of the {pages} pages can be read")
    if not built.text:
        raise UnreadableDocument(
            "no_text_layer", f"{pages} pages, all of them pictures: scanned? Text recognition gives it text"
        )
    known = pdf.get_metadata_dict()
    about: dict[str, Any] = {ours: known[theirs] for theirs, ours in NAMES.items() if known.get(theirs)}
    if date := DATE.match(known.get("CreationDate", "")):
        about["created"] = "-".join(date.groups())
    about |= {name: count for name, count in (("pages_without_text", empty), ("pages_damaged", damaged)) if count}
    return DocumentContent(built.text, known.get("Title", ""), {**about, **built.offsets})


def _page_text(pdf: Any, number: int) -> str | None:
    """None where the page is damaged."""
    import pypdfium2

    try:
        page = pdf[number]
        text: str = page.get_textpage().get_text_range()  # also what runs over the edge of the page
        page.close()
    except pypdfium2.PdfiumError:
        return None
    text = LINE_HYPHEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return text.strip("\n") if text.strip() else ""


def _line_with(heading: str, text: str) -> int:
    """Where the line begins that is the heading, perhaps behind its number; 0 where there is none."""
    words = r"\s+".join(map(re.escape, heading.split()))
    found = re.search(rf"^[\d.]*[^\S\n]*{words}\s*$", text, re.MULTILINE)
    return found.start() if found else 0


def _outline(pdf: Any) -> dict[int, list[str]]:
    """Page (from 0) → the headings that the outline has on it."""
    import pypdfium2

    found: dict[int, list[str]] = {}
    try:
        for bookmark in pdf.get_toc():
            target = bookmark.get_dest()
            page = target.get_index() if target else None
            title = " ".join(bookmark.get_title().split())
            if page is not None and title:
                found.setdefault(page, []).append(title)
    except pypdfium2.PdfiumError:  # a damaged outline takes no text away
        return {}
    return found
