"""Files and packages as sources, and mistakes in the parameters of sources."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.conversations.conversation import messages_of
from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, read_documents
from tasks.scrape.stage import ScrapeParams
from tests.helpers.scraping import files, pages, rows, scrape


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "corpus").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_files_of_each_format(project: Path, tmp_path: Path) -> None:
    corpus = project / "corpus"
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    lines = [
        {"text": "first", "url": "https://e.org/1", "id": 7},
        {"text": "second"},
        {"messages": turns},
    ]
    (corpus / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    pq.write_table(pa.table({"text": ["p one", "p two"], "url": ["https://e.org/p", None]}), corpus / "b.parquet")
    (corpus / "c.txt").write_text("Grüße", "utf-8")
    (corpus / "d e.txt").write_bytes("Grüße aus dem alten Köln, wo die Bäume blühen".encode("latin-1"))
    (corpus / "f.txt").write_text("Grüße", "utf-16")
    (corpus / "g.html").write_text("<p>page</p>")
    outside = tmp_path / "outside.md"
    outside.write_text("outside")
    metrics, outputs = scrape(tmp_path, files("corpus/*", str(outside)))
    table = read_documents(outputs / "documents")
    assert table.schema.names == SCHEMA.names
    found = {row["url"]: row for row in table.to_pylist()}
    assert {url: row["text"] for url, row in found.items() if not messages_of(row["meta"])} == {
        "https://e.org/1": "first",
        "file:corpus/a.jsonl#L2": "second",
        "https://e.org/p": "p one",
        "file:corpus/b.parquet#R2": "p two",
        "file:corpus/c.txt": "Grüße",
        "file:corpus/f.txt": "Grüße",
        "file:corpus/d%20e.txt": "Grüße aus dem alten Köln, wo die Bäume blühen",
        outside.as_uri(): "outside",
    }
    conversations = [row for row in found.values() if messages_of(row["meta"])]
    assert [messages_of(row["meta"]) for row in conversations] == [turns]
    assert {row["text"] for row in conversations} == {"User: hi\nAssistant: hello"}
    assert all(row["licence"] == "CC0-1.0" and row["fetched_at"] is None for row in found.values())
    record, body = pages(outputs, "mine")["file:corpus/g.html"]
    assert record.rec_type == "resource"
    assert body == b"<p>page</p>"
    assert metrics["documents"] == 9
    assert metrics["pages"] == 1


def test_same_files_same_bytes_wherever_the_project_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("a.jsonl").write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(50)))
        Path("b.html").write_text("<p>b</p>")
        _, outputs = scrape(tmp_path / name, files("a.jsonl", "*.html"))
        results.append({p.relative_to(outputs.root): p.read_bytes() for p in outputs.root.rglob("*.*")})
    assert results[0] == results[1]


def test_bad_rows_are_removed_with_their_reason(project: Path, tmp_path: Path) -> None:
    bad = {
        b'{"text": "cut': "broken_json",
        b"[1, 2]": "broken_json",
        b'{"body": "x"}': "no_text",
        b'{"text": 5}': "no_text",
        b'{"text": " "}': "empty",
        b'{"messages": [{"role": "bot", "content": "x"}]}': "malformed_messages",
        b'{"messages": []}': "malformed_messages",
        b'{"text": "good", "url": "u:1"}': "repeated",
    }
    good = b'{"text": "good", "url": "u:1"}\n'
    (project / "corpus" / "a.jsonl").write_bytes(good + b"\n" + b"\n".join(bad))
    (project / "corpus" / "noise.txt").write_bytes(random.Random(0).randbytes(5000))
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    removed = read_documents(outputs / "removed")
    assert removed.schema.names == REMOVED_SCHEMA.names
    assert removed.column("reason").to_pylist() == [*bad.values(), "unknown_encoding"]
    assert all(f"line {n}" in row["detail"] for n, row in enumerate(removed.to_pylist()[:-1], 3))
    assert metrics["sources"]["mine"]["outcomes"] == {
        "broken_json": 2,
        "no_text": 2,
        "empty": 1,
        "malformed_messages": 2,
        "repeated": 1,
        "unknown_encoding": 1,
        "saved": 1,
    }


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", b"x", {"paths": ["nothing/*.txt"]}, "matches no file"),
        ("a.xyz", b"x", {}, "suffix '.xyz'"),
        ("a.parquet", b"PAR1 no", {}, "a.parquet: cannot be read as Parquet"),
        ("a.jsonl", b"", {}, "not one document"),
        ("a.jsonl", b"{", {}, "broken_json"),
    ],
)
def test_unusable_files_say_so(
    project: Path, tmp_path: Path, name: str, content: bytes, options: dict[str, Any], message: str
) -> None:
    (project / "corpus" / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        scrape(tmp_path, files("corpus/*") | options)


def test_parquet_without_the_column(project: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), project / "corpus" / "a.parquet")
    with pytest.raises(UserError, match="text_column"):
        scrape(tmp_path, files("corpus/*"))
    assert scrape(tmp_path / "named", files("corpus/*", text_column="body"))[0]["documents"] == 1


def test_chitchat_conversations(tmp_path: Path) -> None:
    from chitchat_dataset import Dataset

    source = {"name": "chitchat", "kind": "package", "package": "chitchat-dataset"}
    metrics, outputs = scrape(tmp_path, source)
    found = rows(outputs)
    assert len(found) == metrics["documents"] == 7168
    assert len({row["id"] for row in found}) == 7168
    raw = Dataset()
    for row in random.Random(3).sample(found, 200):
        messages = messages_of(row["meta"]) or []
        said = raw[row["url"].rpartition("/")[2]]["messages"]
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"] * (
            len(messages) % 2
        )
        spoken = [part["text"] for parts in said for part in parts if part["text"].strip()]
        assert "\n".join(m["content"] for m in messages) == "\n".join(spoken)
        assert row["licence"] == "MIT"


def test_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install chitchat-dataset"):
        scrape(tmp_path, {"name": "chitchat", "kind": "package", "package": "chitchat-dataset"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"name": "a", "kind": "web", "start": ["http://e.org"], "max_page": 3}, "did you mean `max_pages`"),
        ({"name": "a", "kind": "web", "start": ["ftp://e.org"]}, "no http or https URL"),
        ({"name": "a", "kind": "web", "start": ["http://e.org"], "allow": ["("]}, "no regular expression"),
        ({"name": "a", "kind": "ftp"}, "kind"),
        ({"name": "A b", "kind": "pydoc"}, "name"),
    ],
)
def test_mistakes_in_parameters(source: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"(?i){message}"):
        validate(ScrapeParams, {"sources": [source]}, "params.yaml: scrape")


def test_names_of_sources_are_unique() -> None:
    source = {"name": "a", "kind": "pydoc"}
    with pytest.raises(UserError, match="more than once"):
        validate(ScrapeParams, {"sources": [source, source]}, "params.yaml: scrape")
