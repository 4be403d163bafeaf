"""One bad URL, value or name in what is read costs that alone, and is counted as what it is."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.clean.stage import CleanParams
from tasks.clean.stage import run as clean
from tasks.clean.url_blocklist import blocking_entry
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import read_documents
from tasks.formats.encodings.decode import decode_page
from tasks.instruct.pydoc_questions import pydoc_questions
from tests.helpers.scraping import files, members, page, pages, record, response, rows, scrape, url

BAD_URLS = ["http://[bad/2", "http://\u2100.example/", "//[x"]
PROSE = "People who live near the sea often say that the weather is a matter of taste, and everyone of them agrees."


pytestmark = pytest.mark.usefixtures("one_worker")


@pytest.mark.parametrize("bad", BAD_URLS)
def test_a_record_whose_url_is_none(tmp_path: Path, bad: str) -> None:
    text = record("conversion", bad, b"text", Content_Type="text/plain")
    resource = record("resource", bad, page(2), Content_Type="text/html")
    archive = members(response(url(1), page(1)), response(bad, page(2)), text, resource, response(url(3), page(3)))
    Path("x.warc.gz").write_bytes(archive)
    metrics, outputs = scrape(tmp_path / "run", {"name": "a", "kind": "warc", "paths": ["x.warc.gz"]})
    assert metrics["sources"]["a"]["outcomes"] == {"saved": 2, "bad_url": 3}
    assert set(pages(outputs, "a")) == {url(1), url(3)}
    assert {(row["reason"], row["url"]) for row in rows(outputs, "removed")} == {("bad_url", bad)}


def test_a_path_that_is_no_url_is_counted(tmp_path: Path) -> None:
    Path("good.warc.gz").write_bytes(members(response(url(1), page(1))))
    source = {
        "name": "a",
        "kind": "warc",
        "paths": ["http://[bad/x.warc.gz", f"file://{tmp_path}/good.warc.gz"],
        "retries": 0,
    }
    metrics, _ = scrape(tmp_path / "run", source)
    assert metrics["sources"]["a"]["outcomes"] == {"saved": 1, "unreachable": 1}


@pytest.mark.parametrize("bad", BAD_URLS)
def test_a_row_whose_url_is_none_is_not_blocked(tmp_path: Path, bad: str) -> None:
    urls = [bad, "https://ads.example/1", "https://e.org/1"]
    lines = [{"text": f"{PROSE} It is number {n}.", "url": each} for n, each in enumerate(urls)]
    Path("a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, outputs = scrape(tmp_path / "run", files("a.jsonl"))
    result = Outputs(tmp_path / "clean", tmp_path / "work")
    metrics = clean(CleanParams(url_blocklist=("ads.example",)), Inputs({"scrape": outputs.root}), result)
    assert metrics["removed"] == {"url_blocked": 1}
    assert set(read_documents(result / "documents")["url"].to_pylist()) == {bad, "https://e.org/1"}
    assert blocking_entry(bad, ["bad", "example"]) is None
    assert pydoc_questions(bad, "DESCRIPTION\n") == []


OUT_OF_RANGE = {
    "timestamp": pa.array([0, 2**62, 0], pa.timestamp("us")),
    "timestamp with zone": pa.array([0, 253402300799999999, 0], pa.timestamp("us", tz="Asia/Tokyo")),
    "unknown zone": pa.array([None, 0, None], pa.timestamp("us", tz="Nowhere/X")),
    "date32": pa.array([0, 2**31 - 1, 0], pa.date32()),
    "date64": pa.array([0, 2**62, 0], pa.date64()),
    "duration": pa.array([0, 2**62, 0], pa.duration("s")),
    "nested": pa.array([[0], [0, 2**62], []], pa.list_(pa.timestamp("us"))),
}


@pytest.mark.parametrize("kind", OUT_OF_RANGE)
def test_a_value_that_python_cannot_hold(tmp_path: Path, kind: str) -> None:
    table = pa.table({"text": ["one", "two", "three"], "when": OUT_OF_RANGE[kind], "n": [1, 2, 3]})
    pq.write_table(table, "a.parquet", store_schema=True)
    metrics, outputs = scrape(tmp_path / "run", files("a.parquet"))
    found = {row["text"]: json.loads(row["meta"]) for row in rows(outputs)}
    assert {text: meta["n"] for text, meta in found.items()} == {"one": 1, "two": 2, "three": 3}
    assert "when" not in found["two"]
    assert metrics["sources"]["mine"]["outcomes"] == {"saved": 3}
    assert metrics["sources"]["mine"]["repaired"] == {"unreadable_value": 1}


def test_a_string_that_is_no_utf8_is_a_value(tmp_path: Path) -> None:
    offsets = pa.array([0, 1, 2, 3], pa.int32()).buffers()[1]
    strings = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"a\xffb")])
    pq.write_table(pa.table({"text": ["one", "two", "three"], "when": strings}), "a.parquet")
    metrics, outputs = scrape(tmp_path / "run", files("a.parquet"))
    assert [json.loads(row["meta"])["when"] for row in rows(outputs)] == ["a", "\ufffd", "b"]
    assert metrics["sources"]["mine"]["outcomes"] == {"saved": 3}


def test_a_value_that_is_wanted_costs_its_row(tmp_path: Path) -> None:
    turns = pa.struct([("role", pa.string()), ("content", pa.string()), ("at", pa.timestamp("us"))])
    column = pa.array([[("user", "hi", 0)], [("user", "hi", 2**62)]], pa.list_(turns))
    pq.write_table(pa.table({"messages": column}), "a.parquet")
    metrics, outputs = scrape(tmp_path / "run", files("a.parquet"))
    assert metrics["sources"]["mine"]["outcomes"] == {"saved": 1, "unreadable_value": 1}
    [removed] = rows(outputs, "removed")
    assert "row 2: 'messages': " in removed["detail"]


@pytest.mark.parametrize(
    ("body", "charset", "label"),
    [
        (b"plain", "nonsense", "utf-8 (valid)"),
        (b"plain", "none", "utf-8 (valid)"),
        ("naïve".encode(), "utf-32", "utf-8 (valid)"),
        (b"<meta charset=latin1>na\xefve", "nonsense", "cp1252 (declared)"),
        (b"<meta charset=nonsense>plain", "", "utf-8 (valid)"),
        (b"plain", "UTF8", "utf-8 (declared)"),
    ],
)
def test_an_unknown_charset_declares_nothing(body: bytes, charset: str, label: str) -> None:
    assert decode_page(body, charset).label == label


def test_what_an_unknown_charset_hides_is_detected() -> None:
    decoded: Any = decode_page("Grüße aus dem alten Köln, wo die Bäume blühen".encode("cp1252"), "nonsense")
    assert decoded.by == "content"
    assert "Köln" in decoded.text
