"""Conversations in the forms that people have them in: nothing that changes their meaning is passed over without a word."""

import ast
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.clean.clean_text import clean_messages
from tasks.clean.stage import CleanParams
from tasks.conversations.conversation import trim_content
from tasks.conversations.instruction_formats import to_messages
from tasks.conversations.turns import RejectedRecord
from tasks.core.params import validate
from tasks.held_out.benchmark_items import read_benchmark_items
from tasks.instruct.dialogue_rules import check_dialogue
from tests.helpers.scraping import files, rows, scrape

ASKED, SAID = {"role": "user", "content": "Ask."}, {"role": "assistant", "content": "Say."}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def learnt(record: dict[str, Any], ignored: Counter[str] | None = None) -> list[tuple[str, str]]:
    checked = check_dialogue(to_messages(record, "auto", ignored), 10_000, 0)
    return [(message["role"], message["content"]) for message in checked]


EXCHANGE = [("user", "Ask."), ("assistant", "Say.")]
SHAREGPT = [{"from": "human", "value": "Ask."}, {"from": "gpt", "value": "Say."}]
FORMS = {
    "alpaca": ({"instruction": "Ask.", "input": None, "output": "Say."}, EXCHANGE),
    "alpaca with an input": ({"instruction": "Ask.", "input": "this", "output": "Say."}, [("user", "Ask.\n\nthis"), EXCHANGE[1]]),
    "alpaca with a system": ({"system": "Be.", "instruction": "Ask.", "output": "Say."}, [("system", "Be."), *EXCHANGE]),
    "alpaca with a history": (
        {"instruction": "Ask.", "output": "Say.", "history": [["One?", "Two."]]},
        [("user", "One?"), ("assistant", "Two."), *EXCHANGE],
    ),
    "sharegpt": ({"conversations": SHAREGPT}, EXCHANGE),
    "sharegpt, other names": (
        {"conversations": [{"from": "user", "value": "Ask."}, {"from": "chatgpt", "value": "Say."}]},
        EXCHANGE,
    ),
    "sharegpt, role and content": ({"conversations": [ASKED, SAID]}, EXCHANGE),
    "sharegpt, items": ({"items": SHAREGPT}, EXCHANGE),
    "sharegpt with a system beside it and one inside": (
        {"system": "Top.", "conversations": [{"from": "system", "value": "Inner."}, *SHAREGPT]},
        [("system", "Top.\n\nInner."), *EXCHANGE],
    ),
    "messages": ({"messages": [ASKED, SAID]}, EXCHANGE),
    "messages with a developer": (
        {"messages": [{"role": "developer", "content": "Be."}, ASKED, SAID]},
        [("system", "Be."), *EXCHANGE],
    ),
    "messages with a blank system": ({"messages": [{"role": "system", "content": " "}, ASKED, SAID]}, EXCHANGE),
    "messages in parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Ask."}]}, SAID]},
        EXCHANGE,
    ),
    "messages with weights of one": ({"messages": [ASKED, {**SAID, "weight": 1, "tool_calls": None}]}, EXCHANGE),
    "messages in parts with values": (
        {"messages": [ASKED, {"role": "assistant", "content": [{"type": "text", "value": "Say."}]}]},
        EXCHANGE,
    ),
    "a reply rated good": ({"messages": [ASKED, SAID], "label": True}, EXCHANGE),
    "a question that weighs nothing": ({"messages": [{**ASKED, "weight": 0}, SAID]}, EXCHANGE),
    "an empty list of tools": ({"messages": [ASKED, SAID], "tools": [], "images": None}, EXCHANGE),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_learnt_as_it_is_meant(form: str) -> None:
    record, messages = FORMS[form]
    ignored: Counter[str] = Counter()
    assert learnt(record, ignored) == messages
    assert not ignored


REFUSED = {
    "a call of a tool": ({"messages": [ASKED, {**SAID, "tool_calls": [CALL]}, ASKED, SAID]}, "tools"),
    "a call without text": ({"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}]}, "tools"),
    "an old call": ({"messages": [ASKED, {**SAID, "function_call": {"name": "f"}}]}, "tools"),
    "an answer of a tool": ({"messages": [ASKED, {"role": "tool", "content": "42"}, SAID]}, "tools"),
    "ShareGPT's observation": ({"conversations": [SHAREGPT[0], {"from": "observation", "value": "3"}, SHAREGPT[1]]}, "tools"),
    "tools that are defined": ({"messages": [ASKED, SAID], "tools": '[{"name": "f"}]'}, "tools"),
    "a weight of nothing": ({"conversations": [SHAREGPT[0], {**SHAREGPT[1], "weight": 0}]}, "weight"),
    "a weight between": ({"messages": [ASKED, {**SAID, "weight": 0.5}]}, "weight"),
    "a weight of nothing by another name": ({"messages": [ASKED, {**SAID, "loss_weight": 0.0}]}, "weight"),
    "a reply rated bad": ({"messages": [ASKED, SAID], "label": False}, "disliked"),
    "no training": ({"messages": [ASKED, {**SAID, "train": False}]}, "weight"),
    "a picture": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, SAID]}, "not_text"),
    "pictures beside it": ({"conversations": SHAREGPT, "images": ["a.png"]}, "not_text"),
    "a history of another form": ({"instruction": "a", "output": "b", "history": ["x"]}, "malformed"),
    "a system that is none": ({"system": 7, "conversations": SHAREGPT}, "malformed"),
    "a speaker nobody knows": ({"conversations": [{"from": "narrator", "value": "x"}]}, "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_learnt_as_it_is_meant_is_refused_with_the_reason(what: str) -> None:
    record, reason = REFUSED[what]
    with pytest.raises(RejectedRecord) as caught:
        learnt(record)
    assert caught.value.reason == reason
    assert caught.value.detail


def test_keys_that_say_more_are_counted() -> None:
    ignored: Counter[str] = Counter()
    for _ in range(3):
        record = {"messages": [{**ASKED, "name": "Ann"}, {**SAID, "thinking": ""}], "id": 7, "score": 0.9, "notes": ""}
        assert learnt(record, ignored) == EXCHANGE
    assert ignored == {"messages.name": 3, "score": 3}


CODE = "    def f():\n        return 1\n"


def test_the_indentation_of_code_stays() -> None:
    assert trim_content(f"\n  \n{CODE}\n\n") == CODE.rstrip()
    [_, (_, answer)] = learnt({"messages": [ASKED, {"role": "assistant", "content": f"\n{CODE}"}]})
    ast.parse(f"class A:\n{answer}")
    counts: Counter[str] = Counter()
    said = [{"role": "user", "content": f"{CODE} \n"}]
    assert clean_messages(said, str, counts) == [{"role": "user", "content": CODE.rstrip()}]
    assert validate(CleanParams, {}, "x")


def test_rows_of_files_are_held_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        {"system": "Be.", "messages": [{**ASKED, "name": "Ann"}, SAID]},
        {"messages": [ASKED, {**SAID, "tool_calls": [CALL]}]},
        {"messages": [ASKED, {**SAID, "weight": 0}]},
        {"messages": [{"role": "bot", "content": "x"}]},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    metrics, outputs = scrape(tmp_path / "run", files("a.jsonl"))
    [row] = rows(outputs)
    assert [m["content"] for m in json.loads(row["meta"])["messages"]] == ["Be.", "Ask.", "Say."]
    assert metrics["sources"]["mine"]["repaired"] == {"messages.name_left_out": 1}
    assert [row["reason"] for row in rows(outputs, "removed")] == ["tools", "weight", "malformed_messages"]


def test_rows_of_files_may_have_the_forms_of_instruction_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    alpaca = {"instruction": "Ask.", "input": "this", "output": "Say."}
    (tmp_path / "in/a.json").write_text(json.dumps([{"id": "x", "model": "m", "conversations": SHAREGPT}, alpaca]))
    (tmp_path / "in/b.jsonl").write_text(json.dumps(alpaca) + "\n" + json.dumps({"items": ["no", "turns"]}))
    pq.write_table(pa.Table.from_pylist([alpaca]), tmp_path / "in/c.parquet")
    pq.write_table(pa.Table.from_pylist([{"conversations": SHAREGPT}]), tmp_path / "in/d.parquet")
    (tmp_path / "in/e.csv").write_text("instruction,input,output\nAsk.,this,Say.\n")
    kept = {"messages": [ASKED, SAID], "input": "of another program", "output": "too"}
    (tmp_path / "in/f.jsonl").write_text(json.dumps(kept))
    metrics, outputs = scrape(tmp_path / "run", files("in"))
    exchanges = sorted(row["text"] for row in rows(outputs))
    assert exchanges == 4 * ["User: Ask.\n\nthis\nAssistant: Say."] + 3 * ["User: Ask.\nAssistant: Say."]
    metas = [json.loads(row["meta"]) for row in rows(outputs)]
    assert sorted(set(meta) - {"messages"} for meta in metas if len(meta) > 1) == [{"id", "model"}, {"input", "output"}]
    assert "repaired" not in metrics["sources"]["mine"]
    [lost] = rows(outputs, "removed")
    assert (lost["reason"], lost["detail"].partition(": ")[2]) == ("no_text", "'text' is missing; there are: items")


def test_what_is_not_learnt_from_is_held_out_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    path.write_text(json.dumps({"messages": [ASKED, {**SAID, "tool_calls": [CALL]}]}))
    [item] = read_benchmark_items("instruct", ["bench.jsonl"], {"bench.jsonl": path})
    assert item.texts == ["Ask.", "Say."]
