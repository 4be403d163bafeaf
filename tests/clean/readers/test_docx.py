"""Word: headings, lists, tables, notes, and text in wrappers once; what is deleted stays out."""

import io
import zipfile
from typing import Any

from docx.oxml import parse_xml

from tests.helpers.document_files import word
from tests.helpers.reading_documents import at, read

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


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
