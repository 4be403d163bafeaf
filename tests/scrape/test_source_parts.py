"""Sources that are read in parts: shards that cannot collide, and the same ones whatever the workers and their deaths."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.clean.stage import find_input_files
from tasks.core.errors import UserError
from tasks.documents import shards as documents
from tasks.documents.shards import count_rows, write_shard
from tasks.scrape import file_source
from tasks.scrape.files.row_documents import ScrapedDocument
from tasks.scrape.source_parts import Part, read_parts
from tasks.scrape.source_writer import SourceWriter
from tasks.scrape.sources import FilesSource
from tasks.scrape.warc.warc_writer import resource_record
from tests.helpers.scraping import files, members, pages, record, rows, scrape, url

pytestmark = pytest.mark.usefixtures("one_worker")


def content(outputs: Any) -> dict[Path, bytes]:
    return {path.relative_to(outputs.root): path.read_bytes() for path in outputs.root.rglob("*.*")}


@pytest.mark.parametrize("names", [("dump", "dump-00000"), ("dump-00000", "dump"), ("web-dump", "dump")])
def test_no_source_takes_the_shards_of_another(tmp_path: Path, names: tuple[str, str]) -> None:
    texts = [record("conversion", url(n), b"text", Content_Type="text/plain") for n in range(2)]
    empty = record("conversion", url(2), b" ", Content_Type="text/plain")
    Path("x.warc.gz").write_bytes(members(*texts, empty))
    Path("a.jsonl").write_text('{"text": "one"}\n{"no": "text"}\n')
    Path("b.html").write_text("<p>page</p>")
    archive = {"name": names[0], "kind": "warc", "paths": ["x.warc.gz"]}
    metrics, outputs = scrape(tmp_path / "run", archive, files("a.jsonl", "b.html", name=names[1]))
    assert metrics["documents"] == len(rows(outputs)) == 3
    assert sorted(row["reason"] for row in rows(outputs, "removed")) == ["empty", "no_text"]
    assert len(find_input_files(outputs.root)) == 3


def test_rows_that_are_lost_on_the_way_end_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    monkeypatch.setattr(documents, "write_shard", lambda table, path: write_shard(table.slice(1), path))
    with pytest.raises(AssertionError, match="2 rows were counted, 1 are in"):
        scrape(tmp_path / "run", files("a.jsonl"))


def dying(part: Part, writer: SourceWriter) -> None:
    """Writes three shards of each kind and dies; when it is asked again, it finds one document in all."""
    first = not Path(f"tried-{part.number}").exists()
    Path(f"tried-{part.number}").touch()
    for n in range(3 if first else 1):
        writer.add_document(ScrapedDocument(f"{n}", f"u:{part.number}/{n}", b"", "x" * (2 << 20)))
        if first:
            writer.add_document(ScrapedDocument(f"{n}", f"u:{n}", b"", "y" * (2 << 20), reason="empty"))
            for page in range(101):
                writer.add_page(f"v:{n}/{page}", b"", resource_record(f"v:{n}/{page}", "text/html", b""))
    if first:
        os._exit(1)


@pytest.mark.slow
def test_of_a_lost_workers_shards_none_stays(tmp_path: Path) -> None:
    Path("execution.yaml").write_text("workers: 2\n")
    source = FilesSource(name="a", paths=("*",))
    counts = read_parts([Part(n, (f"{n}",)) for n in range(2)], source, tmp_path / "out", dying)
    assert [(found.documents, found.removed, found.pages) for found in counts] == [(1, 0, 0)] * 2
    left = sorted(path.name for path in (tmp_path / "out").rglob("*.*"))
    assert left == ["a.00000-00000.parquet", "a.00001-00000.parquet"]
    assert count_rows(tmp_path / "out" / "documents") == 2


@pytest.mark.slow
def test_files_are_shared_out_and_the_same_whatever_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(6):  # the last row of each file is also in the next
        lines = [{"text": f"text {n} {m}"} for m in range(20)]
        shared = [{"text": "shared", "url": f"u:{k}"} for k in (n, n + 1)]
        Path(f"{n}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*shared[:1], *lines, shared[1]]))
        Path(f"{n}.html").write_text(f"<p>page {n}</p>")
    Path("logo.png").write_bytes(b"\x89PNG")
    monkeypatch.setattr(file_source, "PART_BYTES", 1000)
    results = []
    for workers in (1, 2):
        Path("execution.yaml").write_text(f"workers: {workers}\n")
        metrics, outputs = scrape(tmp_path / f"run{workers}", files("*.jsonl", "*.html"))
        results.append((metrics, content(outputs)))
    assert results[0] == results[1]
    assert results[0][0]["sources"]["mine"]["outcomes"] == {"saved": 6 * 20 + 7 + 6, "repeated": 5}
    assert [row["text"] for row in rows(outputs)][:2] == ["shared", "text 0 0"]
    assert set(pages(outputs, "mine")) == {f"file:{n}.html" for n in range(6)}
    shards = sorted(path.name for path in (outputs / "documents").iterdir())
    assert len(shards) > 2
    assert pq.read_table(outputs / "removed")["reason"].to_pylist() == ["repeated"] * 5


@pytest.mark.slow
def test_a_mistake_in_one_of_many_files_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_source, "PART_BYTES", 1)
    Path("execution.yaml").write_text("workers: 2\n")
    Path("a.jsonl").write_text('{"text": "one"}\n')
    pq.write_table(pa.table({"body": ["x"]}), "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet: has no column 'text'"):
        scrape(tmp_path / "run", files("*.jsonl", "*.parquet"))
