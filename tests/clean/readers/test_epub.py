"""EPUB: a book is its spine; a damaged chapter is lost alone, and a book without text says why."""

import io
import zipfile

from tests.helpers.document_files import BOOK, PROSE, epub
from tests.helpers.reading_documents import at, read, reason


def test_a_book_is_its_spine() -> None:
    made = epub(BOOK, ["two", "one"], '<a href="one.xhtml#x">Of foxes</a><a href="two.xhtml">The end</a>')
    content = read("epub", made)
    assert content.text == f"The second & last.\n\nFirst\n\n{PROSE}"
    assert at(content) == {"The end": "The", "Of foxes": "First"}
    assert (content.title, content.meta["author"]) == ("The Mill", "Ann Miller")
    assert "# First" in read("epub", made, "markdown").text


def test_names_of_chapters_are_references_and_one_damaged_chapter_is_lost_alone() -> None:
    whole = epub({"a": f"<p>{PROSE}</p>", "b": "<p>Never seen.</p>"})
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            content = old.read(name).replace(b'href="a.xhtml"', b'href="Caf%C3%A9%20%26%201.xhtml#x"')
            new.writestr(name.replace("a.xhtml", "Cafe\u0301 & 1.xhtml"), content)
    content = read("epub", out.getvalue().replace(b"Never seen", b"Never SEEN"))
    assert content.text == PROSE
    assert content.meta["sections_damaged"] == 1


def test_a_book_that_gives_no_text_says_why() -> None:
    locked = {"META-INF/encryption.xml": '<e><CipherReference URI="OEBPS/one.xhtml"/></e>'}
    assert reason("epub", epub(BOOK, **locked)) == "encrypted"
    fonts = {"META-INF/encryption.xml": '<e><CipherReference URI="OEBPS/font.otf"/></e>'}
    assert PROSE in read("epub", epub(BOOK, **fonts)).text
    assert reason("epub", b"PK\3\4 no") == "corrupt_file"
    assert reason("epub", epub({"one": ""})) == "no_text"
    damaged = read("epub", epub(BOOK, ["one", "gone", "two"]))
    assert damaged.meta["sections_damaged"] == 1
    assert PROSE in damaged.text
    lol = '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]><container>&b;</container>'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("META-INF/container.xml", lol)
    assert reason("epub", out.getvalue()) == "corrupt_file"
