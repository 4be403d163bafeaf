"""PDF, Word, EPUB, LaTeX and e-mail: their text in its order, the places of pages and sections, and what is none with its reason."""

import io
import json
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import docx
import pytest
from document_files import epub, locked_pdf, pdf, stream, swelling_pdf
from docx.oxml import parse_xml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scraping import files, scrape

from tasks.clean import stage as clean
from tasks.clean.extraction_process import ExtractionFailed, Extractor
from tasks.clean.html.extract import ExtractionOptions
from tasks.clean.readers import document_content, document_reader
from tasks.clean.readers.document_content import DocumentContent, UnreadableDocument
from tasks.core.paths import Inputs, Outputs
from tasks.documents.sections import map_sections, meta_without_lines
from tasks.documents.shards import read_documents

PROSE = "The quick brown fox jumps over the lazy dog while seven wizards watch from a distant hill and say nothing."
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def read(kind: str, body: bytes | str, format: str = "text") -> DocumentContent:
    return document_reader.read_document(kind, body.encode() if isinstance(body, str) else body, format)


def reason(kind: str, body: bytes) -> str:
    with pytest.raises(UnreadableDocument) as caught:
        read(kind, body)
    assert caught.value.detail
    return caught.value.reason


def at(content: DocumentContent, kind: str = "sections") -> dict[str, str]:
    """Label → the first word there."""
    return {label: content.text[start:].split(maxsplit=1)[0] for start, label in content.meta[kind]}


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


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    one = Extractor()
    yield one
    one.close()


def test_the_processor_time_of_a_document_is_bounded(extractor: Extractor) -> None:
    with pytest.raises(ExtractionFailed) as caught:
        extractor.read_document("pdf", swelling_pdf(), ExtractionOptions(), 1.0)
    assert caught.value.args[0] in ("extraction_timeout", "extraction_crashed")
    assert extractor.read_document("pdf", pdf([PROSE]), ExtractionOptions(), 30).text == PROSE
    with pytest.raises(ExtractionFailed, match="password") as caught:
        extractor.read_document("pdf", locked_pdf(), ExtractionOptions(), 30)
    assert caught.value.args[0] == "encrypted"


def word(build: Any) -> bytes:
    made = docx.Document()
    build(made)
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def test_word_headings_lists_tables_and_what_is_tracked() -> None:
    def build(made: Any) -> None:
        made.core_properties.title, made.core_properties.author = "A report", "Ann"
        made.add_heading("Of mills", 1)
        paragraph = made.add_paragraph("They grind ")
        inserted = f'<w:ins {W}><w:r><w:t xml:space="preserve">fine </w:t></w:r></w:ins>'
        deleted = f"<w:del {W}><w:r><w:delText>coarse</w:delText></w:r></w:del>"
        control = f"<w:sdt {W}><w:sdtContent><w:r><w:t>flour</w:t></w:r></w:sdtContent></w:sdt>"
        for part in (inserted, deleted, control):
            paragraph._p.append(parse_xml(part))
        paragraph.add_run(" <b> & more\nin a line.")
        made.add_paragraph("wheat", style="List Bullet")
        made.add_paragraph("rye", style="List Bullet")
        made.add_heading("Their sizes", 2)
        table = made.add_table(rows=2, cols=2)
        for cell, text in zip(table._cells, ["Mill", "Stones", "Old", "2"], strict=True):
            cell.text = text
        block = f"<w:sdt {W}><w:sdtContent><w:p><w:r><w:t>In a control.</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        made.element.body.insert(0, parse_xml(block))

    plain, marked = (read("docx", word(build), format) for format in ("text", "markdown"))
    assert plain.text.startswith("In a control.\n\nOf mills\n")
    assert "They grind fine flour <b> & more\nin a line." in plain.text
    assert "coarse" not in plain.text
    assert at(plain) == {"Of mills": "Of", "Their sizes": "Their"}
    assert at(marked) == {"Of mills": "#", "Their sizes": "##"}
    assert "- wheat\n- rye" in marked.text
    assert "| Mill | Stones |" in marked.text
    assert "| Old | 2 |" in marked.text
    assert (plain.title, plain.meta["author"]) == ("A report", "Ann")


def test_word_text_in_wrappers_stands_there_once() -> None:
    row = f"<w:sdt {W}><w:sdtContent><w:tr><w:tc><w:p><w:r><w:t>wrapped row</w:t></w:r></w:p></w:tc></w:tr></w:sdtContent></w:sdt>"
    box = "<w:txbxContent><w:p><w:r><w:t>boxed</w:t></w:r></w:p></w:txbxContent>"
    both = (
        f'<w:r {W} xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><mc:AlternateContent>'
        f"<mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r>"
    )
    ruby = f"<w:r {W}><w:ruby><w:rt><w:r><w:t>kan</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>\u6f22</w:t></w:r></w:rubyBase></w:ruby></w:r>"

    def build(made: Any) -> None:
        table = made.add_table(rows=1, cols=1)
        table.cell(0, 0).paragraphs[0]._p.append(parse_xml(both))
        table._tbl.append(parse_xml(row))
        made.add_paragraph()._p.append(parse_xml(both))
        made.add_paragraph()._p.append(parse_xml(ruby))

    text = read("docx", word(build)).text
    assert text.count("boxed") == 2
    assert text.count("wrapped row") == 1
    assert "\u6f22" in text
    assert "kan" not in text


def test_footnotes_of_a_word_document() -> None:
    base = word(lambda made: made.add_paragraph("See below"))
    note = (
        f'<w:footnotes {W}><w:footnote w:type="separator" w:id="-1"><w:p><w:r><w:t>no</w:t></w:r></w:p></w:footnote>'
        '<w:footnote w:id="1"><w:p><w:r><w:t>The note.</w:t></w:r></w:p></w:footnote></w:footnotes>'
    )
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(base)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "word/document.xml":
                content = content.replace(b"See below</w:t>", b'See below</w:t><w:footnoteReference w:id="1"/>')
            if name == "word/_rels/document.xml.rels":
                relation = f'<Relationship Id="rId99" Type="{kind}" Target="footnotes.xml"/></Relationships>'
                content = content.replace(b"</Relationships>", relation.encode())
            new.writestr(name, content)
        new.writestr("word/footnotes.xml", note)
    assert read("docx", out.getvalue()).text == "See below[1]\n\n[1] The note."


BOOK = {"one": f"<h1>First</h1><p>{PROSE}</p>", "two": "<p>The second &amp; last.</p>"}


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


@pytest.mark.parametrize("kind", ["docx", "epub"])
def test_bombs_and_other_archives(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_content, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(document_content, "MAX_RATIO", 50)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bytes(2 << 20))
    assert reason(kind, out.getvalue()) == "decompression_bomb"
    assert reason(kind, b"\xd0\xcf\x11\xe0" + bytes(500) + "EncryptedPackage".encode("utf-16-le")) == "encrypted"
    assert reason(kind, b"\xd0\xcf\x11\xe0" + bytes(500)) == "corrupt_file"
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("word/document.xml", "<w:document/>")
    assert reason(kind, empty.getvalue()) == "corrupt_file"


PAPER = r"""\documentclass{article} % not text
\newcommand{\mill}{the mill}
\title{On \emph{mills}} \author{Ann {\"O}st}
\begin{document} \maketitle
They grind 5\% of the grain, see \cite{ann24} and Eq.~\ref{e}. % a comment
\section[short]{Of $n$ stones {in} braces}
\begin{equation} E = mc^2 \end{equation}
\begin{itemize}\item wheat \item rye\end{itemize}
\begin{lstlisting}[language=Python]
def f(x):
    return x % 2
\end{lstlisting}
\subsection*{Links} \href{http://x.org/}{a link} \input{/etc/passwd} \today
\begin{figure}\includegraphics[width=3cm]{a.png}\caption{A picture.}\end{figure}
\end{document} after"""


def test_latex() -> None:
    content = read("latex", PAPER)
    assert content.text.startswith("They grind 5% of the grain, see [ann24] and Eq.\xa0[e].")
    assert "E = mc^2" in content.text
    assert "def f(x):\n    return x % 2\n" in content.text
    assert "* wheat" in content.text
    assert "A picture." in content.text
    assert "a link" in content.text
    for gone in ("a comment", "not text", "after", "root:", "202", "short"):
        assert gone not in content.text
    assert at(content) == {"Of $n$ stones in braces": "Of", "Links": "Links"}
    assert (content.title, content.meta["author"]) == ("On mills", "Ann \u00d6st")
    assert "## Links\n" in read("latex", PAPER, "markdown").text
    assert read("latex", r"no document, \textbf{bold} --- but text").text == "no document, bold \u2014 but text"


def message(**options: Any) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["Date"] = "J\u00f6rg <joerg@mill.org>", "Thu, 26 Nov 2026 13:00:00 +0100"
    made["Subject"] = "Gr\u00fc\u00dfe"
    return made


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


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["pdf", "docx", "epub", "mail", "latex"]), st.integers(0), st.binary(min_size=1, max_size=9))
def test_no_damage_stops_the_reader(extractor: Extractor, kind: str, where: int, noise: bytes) -> None:
    whole = {
        "pdf": pdf([PROSE] * 2),
        "docx": word(lambda made: made.add_paragraph(PROSE)),
        "epub": epub(BOOK),
        "mail": message().as_bytes() + PROSE.encode(),
        "latex": PAPER.encode(),
    }[kind]
    cut = where % len(whole)
    failed = ""
    try:
        extractor.read_document(kind, whole[:cut] + noise + whole[cut + len(noise) :], ExtractionOptions(), 30)
    except ExtractionFailed as failure:
        failed = failure.args[0]
    assert failed not in ("extraction_crashed", "extraction_timeout")


def test_places_move_with_the_text() -> None:
    text = "one   \n\n\ntwo\nthree \n\nfour"
    meta = {"pages": [[0, "1"], [9, "2"], [21, "3"]], "sections": [[13, "of three"]]}
    new = map_sections(text, meta, lambda part: "\n".join(line.rstrip() for line in part.split("\n")).strip("\n"))
    assert new == "one\n\ntwo\nthree\n\nfour"
    assert [(new[start:][:3], label) for start, label in meta["pages"]] == [("one", "1"), ("two", "2"), ("fou", "3")]
    assert [new[start:] for start, _ in meta["sections"]] == ["three\n\nfour"]
    kept = json.loads(meta_without_lines(json.dumps(meta), new, "one\n\nthree\n\nfour") or "")
    assert kept["pages"] == [[0, "1"], [5, "2"], [12, "3"]]
    theirs = json.dumps({"pages": 12, "sections": [["a", 1]]})
    assert meta_without_lines(theirs, "a\nb", "b") == theirs
    assert map_sections("a", json.loads(theirs), str.upper) == "A"


def test_a_folder_of_documents_becomes_clean_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_worker: Any
) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    two = [f"{PROSE} Ask ann@mill.example.com about it.", "And on the second page: nothing but a line of plain words."]
    (folder / "a.PDF").write_bytes(pdf(two))
    (folder / "b.docx").write_bytes(
        word(lambda made: (made.add_heading("Head"), made.add_paragraph(PROSE + " In Word.")))
    )
    (folder / "c.epub").write_bytes(epub({"one": f"<p>{PROSE} In a book.</p>"}))
    (folder / "d.tex").write_text(rf"\section{{Head}} {PROSE} In a paper.")
    letter = message()
    letter.set_content(f"{PROSE} In a letter.\n")
    (folder / "e.eml").write_bytes(letter.as_bytes())
    (folder / "f.mbox").write_bytes(b"From x Thu Nov 26 12:00:00 2026\n" + letter.as_bytes().replace(b"letter", b"box"))
    (folder / "locked.pdf").write_bytes(locked_pdf())
    (folder / "scan.pdf").write_bytes(pdf([b""]))
    (folder / "bad.docx").write_bytes(b"PK\3\4")
    metrics, outputs = scrape(tmp_path / "scrape", files("papers"))
    assert metrics["pages"] == 9
    out = Outputs(tmp_path / "out", tmp_path / "work")
    for path in (out.root, out.work):
        path.mkdir()
    clean.run(clean.CleanParams(), Inputs({"scrape": outputs.root}), out)
    kept = {row["url"].removeprefix("file:papers/"): row for row in read_documents(out / "documents").to_pylist()}
    assert set(kept) == {"a.PDF", "b.docx", "c.epub", "d.tex", "e.eml", "f.mbox#M1"}
    about = {name: json.loads(row["meta"]) for name, row in kept.items()}
    assert "ann@" not in kept["a.PDF"]["text"]
    [_, (second, _)] = about["a.PDF"]["pages"]
    assert kept["a.PDF"]["text"][second:] == two[1]
    assert about["b.docx"]["sections"] == [[0, "Head"]]
    assert about["e.eml"]["title"] == "Gr\u00fc\u00dfe"
    assert "joerg@" not in about["e.eml"]["from"]
    reasons = {row["url"]: row["reason"] for row in read_documents(out / "removed").to_pylist()}
    assert reasons == {
        "file:papers/locked.pdf": "encrypted",
        "file:papers/scan.pdf": "no_text_layer",
        "file:papers/bad.docx": "corrupt_file",
    }


def test_a_large_text_out_of_a_small_document_is_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.clean.readers import pdf as reader

    monkeypatch.setattr(reader, "MAX_CHARACTERS", 100)
    assert reason("pdf", pdf([PROSE])) == "decompression_bomb"
    assert stream(b"x").startswith(b"<<")
