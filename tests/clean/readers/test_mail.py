"""E-mail: its text in every coding, of several parts, and out of messages that break the format."""

import pytest

from tests.helpers.document_files import PROSE, message
from tests.helpers.reading_documents import read, reason


def test_mail_in_every_coding() -> None:
    for charset, coding in (("utf-8", "base64"), ("iso-8859-1", "quoted-printable"), ("windows-1252", "8bit")):
        made = message()
        made.set_content("Sch\u00f6ne Gr\u00fc\u00dfe = 5\n", charset=charset, cte=coding)
        content = read("mail", made.as_bytes())
        assert content.text == "Sch\u00f6ne Gr\u00fc\u00dfe = 5"
        assert content.title == "Gr\u00fc\u00dfe"
        assert content.meta == {"from": "J\u00f6rg <joerg@mill.org>", "date": "2026-11-26T12:00:00+00:00"}


def test_mail_of_several_parts() -> None:
    made = message()
    made.set_content("The plain text.\n")
    made.add_alternative("<p>The <b>other</b> text.</p>", subtype="html")
    made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="a.pdf")
    made.add_attachment("notes", filename="notes.txt")
    content = read("mail", made.as_bytes())
    assert content.text == "The plain text."
    assert content.meta["attachments"] == 2
    only = message()
    only.set_content(f"<table><tr><td>a</td><td>b</td></tr></table><p>{PROSE}</p>", subtype="html")
    assert PROSE in read("mail", only.as_bytes()).text
    none = message()
    none.add_attachment(b"x", maintype="image", subtype="png")
    assert reason("mail", none.as_bytes()) == "no_text"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Content-Type: text/plain; charset=x-none\n\n\xe4hm", "\u00e4hm"),
        (b"From: =?utf-8?q?broken\nSubject: =?x?b?!!?=\n\nbody", "body"),
        (b"Content-Type: text/plain; format=flowed\n\nOne \ntwo.\n> three\n-- \nAnn", "One two.\n> three\n-- \nAnn"),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\npart", "part"),
        (b"Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\nno end", "no end"),
        (b"Content-Type: multipart/mixed; boundary=b\n\nno parts", "no parts"),
        (b"no header at all", "no header at all"),
    ],
)  # fmt: skip
def test_mail_that_breaks_the_format(raw: bytes, text: str) -> None:
    assert read("mail", raw).text == text
