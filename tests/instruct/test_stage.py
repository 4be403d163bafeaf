"""Instruct: what is held out, what is removed and why, and that no training item repeats a held-out one or a benchmark's."""

import json

import pytest

from tasks.conversations.conversation import render_conversation
from tasks.core.errors import UserError
from tasks.held_out.benchmark_items import read_benchmark_items
from tasks.held_out.split import split_of
from tests.helpers.instructing import PAGE, again, document, instruct, pages, reasons, said, talk

pytestmark = pytest.mark.usefixtures("one_worker")


def test_held_out_exactly_if_the_document_is_validation(tmp_path):
    documents = [document(said(number)) for number in range(120)]
    tables, metrics = instruct(tmp_path, documents, validation_fraction=0.2)
    split = dict(zip([d["id"] for d in documents], split_of([d["id"] for d in documents], 0.2), strict=True))
    assert {row["id"]: row["split"] for row in tables["split"]} == split
    assert {row["id"] for row in tables["held_out"]} == {name for name in split if split[name] == "validation"}
    assert {row["id"] for row in tables["train"]} == {name for name in split if split[name] == "train"}
    assert metrics["documents"]["validation"] == len(tables["held_out"]) > 5
    assert metrics["dialogues_in"] == metrics["dialogues_out"] == 120


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
    assert metrics["train"] == {
        "bytes": metrics["train"]["bytes"],
        "conversations": 1,
        "items": 3,
        "pairs": 0,
        "questions": 0,
    }


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
        list(read_benchmark_items("instruct", ["none.jsonl"], {}))


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
    assert sorted(render_conversation(row["messages"]) for row in loaded) == sorted(
        render_conversation(said(number)) for number in range(9)
    )
