"""Files of conversations: each format, records that are malformed, files that cannot be read, large ones."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import UserError
from tasks.documents.shards import read_shard
from tasks.instruct import chat_items
from tests.helpers.instructing import again, document, instruct, pages, reasons, said, talk

pytestmark = pytest.mark.usefixtures("one_worker")


RECORDS = {
    "alpaca": {"instruction": "Name a {n} fruit.", "input": "It is sweet.", "output": "The {n} apple is one."},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi {n}"}, {"from": "gpt", "value": "Hello {n}"}]},
    "messages": {"messages": talk("Ask {n}", "Answer {n}")},
}


def numbered(record, number: int):
    return json.loads(json.dumps(record).replace("{n}", f"{number}th"))


@pytest.mark.parametrize("format_", ["named", "auto"])
@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("kind", RECORDS)
def test_formats(tmp_path, kind, ending, format_):
    rows = [numbered(RECORDS[kind], number) for number in range(5)]
    path = tmp_path / f"data.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)) if ending == "jsonl" else json.dumps(rows))
    files = [{"path": f"*.{ending}", "format": kind if format_ == "named" else "auto", "source": "mine"}]
    tables, _ = instruct(tmp_path, [document(said(1))], validation_fraction=0.0, files=files)
    found = [[m["content"] for m in row["messages"]] for row in tables["train"] if row["source"] == "mine"]
    first = {
        "alpaca": ["Name a 0th fruit.\n\nIt is sweet.", "The 0th apple is one."],
        "sharegpt": ["Hi 0th", "Hello 0th"],
        "messages": ["Ask 0th", "Answer 0th"],
    }[kind]
    assert len(found) == 5
    assert first in found


def test_a_file_whose_name_looks_like_a_pattern_is_read(tmp_path):
    path = tmp_path / "chats [2].jsonl"
    path.write_text(json.dumps({"messages": talk("Ask me", "Answer me")}))
    tables, _ = instruct(tmp_path, [document(said(1))], validation_fraction=0.0, files=[{"path": path.name}])
    assert [row["messages"][0]["content"] for row in tables["train"] if row["source"] == "files"] == ["Ask me"]


def test_malformed_records_are_removed_with_their_number(tmp_path):
    lines = [
        json.dumps({"instruction": "Say yes, please.", "output": "Yes, gladly."}),
        '{"instruction": "cut of',
        "",
        json.dumps(["no object"]),
        json.dumps({"prompt": "x", "completion": "y"}),
        json.dumps({"conversations": [{"from": "tool", "value": "x"}]}),
        json.dumps({"messages": [{"role": "user"}]}),
        json.dumps({"instruction": "No answer?", "output": "  "}),
        json.dumps({"instruction": None, "output": "x"}),
        json.dumps({"instruction": "A lone surrogate", "output": "\ud800"}),
    ]
    (tmp_path / "data.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    tables, metrics = instruct(tmp_path, [document(said(1))], validation_fraction=0.0, files=[{"path": "data.jsonl"}])
    details = [row["detail"] for row in tables["removed"]]
    assert [detail.split(":")[0] for detail in details] == [f"record {n}" for n in (2, 4, 5, 6, 7, 8, 9, 11)]
    assert metrics["removed"] == {"empty_turn": 1, "malformed": 6, "tools": 1}
    assert metrics["dialogues_in"] == 11


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.csv", b"a,b", r"cannot read \.csv; allowed: \.jsonl"),
        ("data.json", b'{"a": 1}', "must hold a list of records"),
        ("data.json", b"[1, ", "not valid JSON"),
        ("data.parquet", b"PAR1 not", "cannot be read as Parquet"),
        (None, b"", "no file matches"),
    ],
)
def test_unreadable_files(tmp_path, name, content, message):
    if name:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        instruct(tmp_path, [document(said(1))], files=[{"path": name or "missing/*.jsonl"}])


def test_files_that_were_named_and_give_nothing_are_an_error(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"prompt": "x", "completion": "y"}\n')
    with pytest.raises(UserError, match=r"no conversation or question is left .*'malformed': 1.*instruct\.files"):
        instruct(tmp_path, pages(20), files=[{"path": "data.jsonl"}])


def test_a_large_file_of_records_becomes_shards_of_the_same_items(tmp_path, monkeypatch):
    """Bounded shards, whatever the size of the file: the same items in the same order, windows of a dialogue together."""
    records = [{"messages": said(n % 50, 6)} for n in range(60)] + [{"messages": talk("Hello", " ")}] * 20
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    options = {"files": [{"path": "talks.jsonl"}], "validation_fraction": 0.1, "max_turns": 2}
    whole = instruct(tmp_path, [document(said(100 + n)) for n in range(20)], **options)
    monkeypatch.setattr(chat_items, "SHARD_BYTES", 700)
    cut = again(tmp_path, tmp_path / "documents", name="cut", **options)
    for tables, _ in (whole, cut):
        tables["removed"].sort(key=lambda row: row["id"])
    assert cut == whole
    shards = [read_shard(path) for path in (tmp_path / "cut/train").glob("file-*.parquet")]
    assert len(shards) > 20
    assert max(len(shard) for shard in shards) <= 9
    assert reasons(cut[0]).count("empty_turn") == 20
