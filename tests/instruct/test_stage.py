import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.conversations.conversation import render, trimmed
from tasks.conversations.turns import Rejected
from tasks.core.errors import UserError
from tasks.documents.shards import read_shard
from tasks.held_out.benchmark_items import read_references
from tasks.held_out.split import split_of
from tasks.instruct import chat_items
from tasks.instruct.dialogue_rules import check, windows
from tasks.instruct.pydoc_questions import questions_of
from tests.helpers.instructing import again, document, instruct, reasons, said, talk

TURN = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.text()})
PAGE = """Python 3.11.7 [main, GCC 12.2.0]
Module Index : Topics : Keywords

shelf (version 1.0)	index
/usr/lib/python3.11/shelf.py
Module Reference

Keeps books on shelves. It is fast.

Classes

builtins.object
Shelf

class Shelf(builtins.object)
Shelf(width=3)

A place where books stand, e.g. Novels and poems.
More of it.

Methods defined here:
__init__(self, width=3)
Initialize self.  See help(type(self)) for accurate signature.
close(self)
close(self) -> None

Put the books away.
find(self, title)
>>> shelf.find("x")
open(self, /, *, force=False) -> bool
Open the shelf
with both hands. Then read.
Methods inherited from builtins.object:
wipe(self)
Clean everything off it.

Functions

_hidden(x)
Do what nobody sees.
aim(book)
lower case is no sentence.
burn(book) -> None
Never do this to a book!
count(*shelves, start: int = 0) -> int from builtins.type
Return how many books the given shelves hold.
zip(a)
Return a zip.

Data

__all__ = ['Shelf']
"""


pytestmark = pytest.mark.usefixtures("one_worker")


@settings(deadline=None, max_examples=300)
@given(st.lists(TURN, max_size=7), st.integers(2, 6))
def test_what_passes_is_a_dialogue_and_loses_nothing_but_a_last_question(turns, max_turns):
    try:
        checked = check(turns, max_turn_characters=10**6, min_distinct=0)
    except Rejected:
        return
    stripped = [{"role": turn["role"], "content": trimmed(turn["content"])} for turn in turns]
    assert checked in (stripped, stripped[:-1])
    parts = windows(checked, max_turns)
    lead = checked[:1] if checked[0]["role"] == "system" else []
    assert lead + [turn for part in parts for turn in part[len(lead) :]] == checked
    for part in parts:
        roles = [turn["role"] for turn in part[len(lead) :]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert 2 <= len(roles) <= max_turns
        assert part[: len(lead)] == lead
        assert all(turn["content"].strip() for turn in part)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("hello", "malformed"),
        ([], "malformed"),
        ([{"role": "user"}], "malformed"),
        ([{"role": "robot", "content": "x"}], "malformed"),
        ([{"role": "user", "content": 7}], "malformed"),
        (talk("a", " \n"), "empty_turn"),
        (talk("a", "b")[1:], "not_begun_by_user"),
        ([*talk("a", "b"), *talk("c", "d")[1:]], "roles_do_not_alternate"),
        ([*talk("a", "b"), {"role": "system", "content": "s"}], "roles_do_not_alternate"),
        (talk("monologue"), "no_reply"),
        ([{"role": "system", "content": "s"}, *talk("a")], "no_reply"),
        (talk("a", "b" * 101), "turn_too_long"),
        (talk("hi", "Hi", "hi ", "HI"), "repetitive"),
    ],
)
def test_reasons(messages, reason):
    with pytest.raises(Rejected) as rejected:
        check(messages, max_turn_characters=100, min_distinct=0.5)
    assert rejected.value.reason == reason


def test_held_out_exactly_if_the_document_is_validation(tmp_path):
    documents = [document(said(number)) for number in range(120)]
    tables, metrics = instruct(tmp_path, documents, validation_fraction=0.2)
    split = dict(zip([d["id"] for d in documents], split_of([d["id"] for d in documents], 0.2), strict=True))
    assert {row["id"]: row["split"] for row in tables["split"]} == split
    assert {row["id"] for row in tables["held_out"]} == {name for name in split if split[name] == "validation"}
    assert {row["id"] for row in tables["train"]} == {name for name in split if split[name] == "train"}
    assert metrics["documents"]["validation"] == len(tables["held_out"]) > 5
    assert metrics["dialogues_in"] == metrics["dialogues_out"] == 120


def test_a_larger_fraction_holds_out_the_same_and_more():
    names = [str(number) for number in range(5000)]
    small, large = ({n for n, s in zip(names, split_of(names, f), strict=True) if s != "train"} for f in (0.02, 0.05))
    assert small < large
    assert 60 < len(small) < 145  # binomial(5000, 0.02): mean 100, standard deviation 10
    assert set(split_of(names, 0.0)) == {"train"}


def test_every_removal_is_kept_with_its_reason(tmp_path):
    documents = [document(said(number)) for number in range(12)]
    documents += [document(talk("Only me?")), document(talk("a", "b" * 5000)), document(said(3), url="package:copy")]
    documents += [document(None, text="A page that is no conversation.", url="file:x")]
    tables, metrics = instruct(tmp_path, documents, validation_fraction=0.0)
    assert reasons(tables) == ["duplicate", "no_reply", "turn_too_long"]
    assert metrics["removed"] == {"duplicate": 1, "no_reply": 1, "turn_too_long": 1}
    assert metrics["dialogues_in"] == 15
    kept = {row["id"] for row in tables["train"]}
    assert next(row["kept_id"] for row in tables["removed"] if row["reason"] == "duplicate") in kept


def test_long_conversations_become_several(tmp_path):
    messages = [{"role": "system", "content": "Be kind."}, *said(1, turns=11)]
    tables, metrics = instruct(tmp_path, [document(messages)], validation_fraction=0.0, max_turns=4)
    assert [row["id"].split("#")[1] for row in tables["train"]] == ["0", "1", "2"]
    assert [len(row["messages"]) for row in tables["train"]] == [5, 5, 3]
    assert metrics["train"] == {"bytes": metrics["train"]["bytes"], "conversations": 1, "items": 3, "questions": 0}


def test_questions_of_a_documentation_page():
    found = {question.name: question.answer for question in questions_of("http://127.0.0.1:1/shelf.html", PAGE)}
    assert found == {
        "shelf": "Keeps books on shelves.",
        "shelf.Shelf": "A place where books stand, e.g. Novels and poems.",
        "shelf.Shelf.close": "Put the books away.",
        "shelf.Shelf.open": "Open the shelf with both hands.",
        "shelf.burn": "Never do this to a book!",
        "shelf.count": "Return how many books the given shelves hold.",
        "shelf.zip": "Return a zip.",
    }
    texts = [question.text for question in questions_of("http://127.0.0.1:1/shelf.html", PAGE)]
    assert all(name in text for name, text in zip(found, texts, strict=True))


@pytest.mark.parametrize("url", ["http://x/shelf.txt", "http://x/", "http://x/_shelf.html", "file:shelf", None])
def test_nothing_is_invented_for_other_pages(url):
    assert questions_of(url, PAGE) == []
    assert questions_of("http://x/shelf.html", "Functions are nice. burn(book)\nIt says so.") == []


def test_real_pydoc_pages():
    import pydoc

    from resiliparse.extract.html2text import extract_plain_text

    name, html = "json", pydoc.html.page("json", pydoc.html.document(__import__("json"), "json"))
    found = {
        question.name: question.answer for question in questions_of(f"http://x/{name}.html", extract_plain_text(html))
    }
    assert found["json.dumps"] == "Serialize ``obj`` to a JSON formatted ``str``."  # json.dumps.__doc__
    assert "json.load" in found


def test_answers_that_say_nothing_are_removed(tmp_path):
    page = PAGE + "Functions\n" + "".join(f"same{n}(x)\nEmit a log record.\n" for n in range(5))
    pages = [document(text=page, url="http://127.0.0.1:1/shelf.html", source="docs"), document(said(1))]
    tables, metrics = instruct(tmp_path, pages, validation_fraction=0.0)
    assert metrics["removed_questions"] == {"boilerplate_answer": 5}
    assert metrics["questions_in"] == metrics["questions_out"] + 5 == 12
    assert reasons(tables) == ["boilerplate_answer"] * 5


def test_no_training_item_repeats_a_held_out_one(tmp_path):
    """The same answers in two documents of which one is held out, and near-copies of held-out conversations."""
    urls = [f"http://127.0.0.1:1/{name}.html" for name in ("shelf", "rack", "board", "case", "drawer", "box")]
    documents = [document(text=PAGE.replace("shelf (", f"{url[19:-5]} ("), url=url, source="docs") for url in urls]
    talks = [said(number, turns=8) for number in range(60)]
    documents += [document(messages) for messages in talks]
    documents += [
        document([*messages[:-1], {"role": "assistant", "content": "Bye."}], url="copy") for messages in talks
    ]
    tables, metrics = instruct(tmp_path, documents, validation_fraction=0.3, max_same_answer=10)
    held_out = {message["content"] for row in tables["held_out"] for message in row["messages"][1:]}
    assert len(tables["held_out"]) > 20
    assert metrics["removed"]["in_held_out"] > 5
    assert metrics["removed_questions"].get("in_held_out", 0) > 5
    for row in tables["train"]:
        assert not {message["content"] for message in row["messages"]} & (held_out - {"Bye."})
    assert all(row["kept_id"] or row["matched"] for row in tables["removed"] if row["reason"] == "in_held_out")


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


def test_no_training_item_holds_a_reference(tmp_path):
    talks = [said(number) for number in range(10)]
    lines = [{"text": talks[3][1]["content"] + " " + talks[3][2]["content"]}, {"messages": talks[7]}]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    documents = [document(messages) for messages in talks]
    tables, metrics = instruct(tmp_path, documents, validation_fraction=0.0, references=("bench.jsonl",))
    gone = {row["id"]: (row["reason"], row["matched"]) for row in tables["removed"]}
    assert gone == {documents[n]["id"]: ("in_held_out", f"bench.jsonl#{k}") for n, k in ((3, 1), (7, 2))}
    assert metrics["removed"] == {"in_held_out": 2}
    with pytest.raises(UserError, match=r"instruct\.references: none\.jsonl is no dependency of instruct"):
        list(read_references("instruct", ["none.jsonl"], {}))


def pages(count: int):
    return [document(None, text=f"Page {number}.", url=f"file:{number}") for number in range(count)]


def test_text_alone_is_split_and_gives_no_items(tmp_path, caplog):
    caplog.set_level("INFO", "tasks")
    tables, metrics = instruct(tmp_path, pages(40), validation_fraction=0.2)
    assert tables["train"] == tables["held_out"] == []
    assert len(tables["split"]) == 40
    assert 0 < metrics["documents"]["validation"] < 40
    assert [record.getMessage() for record in caplog.records if "instruct" in record.getMessage()] == [
        "instruct: no conversation among the documents: the model is not tuned, a base model comes of them"
    ]


def test_conversations_of_which_none_is_left_are_told_with_the_reasons(tmp_path, caplog):
    instruct(tmp_path, [*pages(40), document(talk("Is anybody there?"))], validation_fraction=0.2)
    assert "of 1 conversations and 0 questions none is left to train on" in caplog.text
    assert "{'no_reply': 1}" in caplog.text


def test_files_that_were_named_and_give_nothing_are_an_error(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"prompt": "x", "completion": "y"}\n')
    with pytest.raises(UserError, match=r"no conversation or question is left .*'malformed': 1.*instruct\.files"):
        instruct(tmp_path, pages(20), files=[{"path": "data.jsonl"}])


def test_a_split_that_holds_out_all_or_nothing(tmp_path, caplog):
    with pytest.raises(UserError, match=r"validation_fraction: 0\.999 holds out all of the 1 documents"):
        instruct(tmp_path / "all", pages(1), validation_fraction=0.999)
    instruct(tmp_path / "none", pages(3), validation_fraction=0.0)
    assert "none of the 3 documents is held out (instruct.validation_fraction: 0)" in caplog.text


def test_same_bytes_for_any_number_of_workers(tmp_path, monkeypatch):
    documents = [document(said(number)) for number in range(40)] + [document(text=PAGE, url="http://x/shelf.html")]
    instruct(tmp_path, documents, validation_fraction=0.2)
    contents = []
    for workers in (1, 2):
        (tmp_path / "execution.yaml").write_text(f"workers: {workers}\n")
        tables, metrics = again(tmp_path, tmp_path / "documents", f"out{workers}", validation_fraction=0.2)
        root = tmp_path / f"out{workers}"
        contents.append(
            ({p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*.parquet"))}, tables, metrics)
        )
    assert contents[0] == contents[1]


def test_other_tools_read_the_items(tmp_path):
    import datasets

    instruct(tmp_path, [document(said(number)) for number in range(9)], validation_fraction=0.0)
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out/train/*.parquet"), split="train", streaming=True
    )
    assert sorted(render(row["messages"]) for row in loaded) == sorted(render(said(number)) for number in range(9))


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
