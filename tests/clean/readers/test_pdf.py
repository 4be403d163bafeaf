"""PDF: the text of its pages in their order, its outline, and why there is none."""

import pytest

from tests.helpers.document_files import PROSE, locked_pdf, pdf, stream
from tests.helpers.reading_documents import at, read, reason


def test_pages_of_a_pdf_and_its_outline() -> None:
    outline = [
        b"<</Type/Outlines/First 5 0 R/Last 5 0 R/Count 1>>",
        b"<</Title(Of mills)/Parent 4 0 R/Dest[10 0 R/Fit]>>",
        b"<</Title(A title \\(of a book\\))/Author(Ann)/CreationDate(D:20260102030405Z)>>",
        b"null",
    ]
    made = pdf(
        ["One sentence that goes on", "on the next page.\nOf mills\nThey grind.", b"", "End (\u00e9)."],
        outline,
        b"/Info 6 0 R",
    )
    content = read("pdf", made)
    assert content.text == "One sentence that goes on\non the next page.\nOf mills\nThey grind.\n\nEnd (\u00e9)."
    assert at(content, "pages") == {"1": "One", "2": "on", "3": "End", "4": "End"}
    assert at(content) == {"Of mills": "Of"}
    assert content.meta["created"] == "2026-01-02"
    assert (content.title, content.meta["author"], content.meta["pages_without_text"]) == (
        "A title (of a book)",
        "Ann",
        1,
    )


def test_a_pdf_that_gives_no_text_says_why() -> None:
    assert reason("pdf", locked_pdf()) == "encrypted"
    assert reason("pdf", pdf([b"0 0 m 9 9 l S", b""])) == "no_text_layer"
    assert reason("pdf", b"%PDF-1.4\n%\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF") == "corrupt_file"
    assert PROSE in read("pdf", pdf([PROSE] * 3).replace(b"xref", b"xxxx")).text  # its table of objects is found anew


def test_a_large_text_out_of_a_small_document_is_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.clean.readers import pdf as reader

    monkeypatch.setattr(reader, "MAX_CHARACTERS", 100)
    assert reason("pdf", pdf([PROSE])) == "decompression_bomb"
    assert stream(b"x").startswith(b"<<")
