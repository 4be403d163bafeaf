"""Documents of any kind: bounded time and size, no damage stops the reader, and a folder of all kinds becomes clean text."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.clean import stage as clean
from tasks.clean.extraction_process import ExtractionFailed, Extractor
from tasks.clean.html.extract import ExtractionOptions
from tasks.clean.readers import document_content
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import read_documents
from tests.helpers.document_files import BOOK, PAPER, PROSE, epub, locked_pdf, message, pdf, swelling_pdf, word
from tests.helpers.reading_documents import reason
from tests.helpers.scraping import files, scrape


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
