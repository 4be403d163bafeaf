"""Text out of documents that are no web pages: PDF, Word, EPUB, LaTeX, e-mail. They run in the extractor's process."""

from collections.abc import Callable

from tasks.clean.readers.document_content import DocumentContent, UnreadableDocument
from tasks.formats.file_kinds import MEDIA_TYPES, Format

KINDS: dict[str, Format] = {media: kind for kind, media in MEDIA_TYPES.items() if kind not in ("html", "mbox")}
KINDS |= {"application/x-pdf": "pdf", "application/x-tex": "latex", "application/x-latex": "latex"}
"""Media type → the kind of document."""


def document_kind(media_type: str, body: bytes) -> Format | None:
    """The kind of a document by its media type; a PDF sent as mere bytes, by how it begins. None: it is no document."""
    if media_type in ("", "application/octet-stream", "binary/octet-stream"):
        return "pdf" if body.startswith(b"%PDF-") else None
    return KINDS.get(media_type)


def read_document(kind: str, body: bytes, format: str) -> DocumentContent:
    """Read a document; `format`: text or markdown.

    Raises:
        UnreadableDocument: corrupt_file, encrypted, no_text_layer, decompression_bomb, ...
    """
    try:
        return _reader(kind)(body, format)
    except OverflowError as error:
        raise UnreadableDocument("decompression_bomb", str(error)) from None


def _reader(kind: str) -> Callable[[bytes, str], DocumentContent]:
    match kind:  # each with its own library, loaded when it is wanted
        case "pdf":
            from tasks.clean.readers import pdf

            return pdf.read
        case "docx":
            from tasks.clean.readers import docx

            return docx.read
        case "epub":
            from tasks.clean.readers import epub

            return epub.read
        case "latex":
            from tasks.clean.readers import latex

            return latex.read
        case _:
            from tasks.clean.readers import mail

            return mail.read
