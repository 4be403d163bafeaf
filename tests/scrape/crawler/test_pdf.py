"""A crawl that is asked to takes the PDF files that it meets; one that is not leaves them, with the reason in its log."""

import gzip
import json
from pathlib import Path
from typing import Any

from tasks.clean import stage as clean
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import read_documents
from tests.helpers.document_files import locked_pdf, pdf
from tests.helpers.scraping import outcomes, scrape, web
from tests.helpers.site_server import Site, serve

PROSE = "The quick brown fox jumps over the lazy dog while seven wizards watch from a distant hill and say nothing."
HOME = f"<html><body><p>{PROSE} Here is all that we have printed.</p>%s</body></html>"
PDF = {"Content-Type": "application/pdf"}
BYTES = {"Content-Type": "application/octet-stream"}


def library(site: Site) -> None:
    files = {
        "/a.pdf": (PDF, pdf([f"{PROSE} On paper.", "And a second page with some more words in it."])),
        "/b?download=1": (BYTES, pdf([f"{PROSE} As mere bytes."])),
        "/c.PDF": ({**PDF, "Content-Encoding": "gzip"}, gzip.compress(pdf([f"{PROSE} Compressed."]))),
        "/locked.pdf": (PDF, locked_pdf()),
        "/tool": (BYTES, b"\x7fELF"),
        "/hidden.pdf": ({**PDF, "X-Robots-Tag": "noindex"}, pdf([PROSE])),
        "/secret/x.pdf": (PDF, pdf([PROSE])),
        "/huge.pdf": (PDF, pdf([b"q " * 150_000])),
        "/p.png": ({"Content-Type": "image/png"}, b"\x89PNG"),
    }
    for path, (head, body) in files.items():
        site.replies[path.partition("?")[0]] = lambda n, head=head, body=body: (200, head, body)  # type: ignore[misc]
    site.pages["/"] = HOME % site.link_to(*files)


def test_pdf_files_become_documents_if_asked(tmp_path: Path, one_worker: Any) -> None:
    with serve() as site:
        library(site)
        _, outputs = scrape(tmp_path / "scrape", web(site, pdf=True, max_bytes=200_000))
        assert outcomes(site, outputs) == {
            "/": "saved",
            "/a.pdf": "saved",
            "/b?download=1": "saved",
            "/c.PDF": "saved",
            "/locked.pdf": "saved",
            "/tool": "no_text",
            "/hidden.pdf": "noindex",
            "/secret/x.pdf": "robots",
            "/huge.pdf": "too_large",
            "/p.png": "excluded",
        }
    out = Outputs(tmp_path / "out", tmp_path / "work")
    for path in (out.root, out.work):
        path.mkdir()
    clean.run(clean.CleanParams(), Inputs({"scrape": outputs.root}), out)
    kept = {row["url"].removeprefix(site.url): row for row in read_documents(out / "documents").to_pylist()}
    assert set(kept) == {"/", "/a.pdf", "/b?download=1", "/c.PDF"}
    assert kept["/c.PDF"]["text"] == f"{PROSE} Compressed."
    assert [label for _, label in json.loads(kept["/a.pdf"]["meta"])["pages"]] == ["1", "2"]
    assert kept["/a.pdf"]["fetched_at"] is not None
    [removed] = read_documents(out / "removed").to_pylist()
    assert (removed["url"], removed["reason"]) == (f"{site.url}/locked.pdf", "encrypted")


def test_pdf_files_are_left_and_counted_if_not_asked(tmp_path: Path) -> None:
    with serve() as site:
        library(site)
        metrics, outputs = scrape(tmp_path, web(site))
        found = outcomes(site, outputs)
        assert site.asked["/a.pdf"] == 0
    assert (found["/a.pdf"], found["/b?download=1"]) == ("excluded", "no_text")
    assert metrics["sources"]["site"]["pages"] == 1
