"""A user's own evaluation set: every form is understood, kept out of training, and scored as lm-eval and torchmetrics score it."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.conversations.turns import RejectedRecord
from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.evaluate.stage import EvaluateParams
from tasks.held_out.evaluation_items import Choice, Item, Question, TextItem, parse_item
from tasks.held_out.evaluation_set import FOLDER, benchmark_items, chosen_files, files_of, read_file

ASKED = "Where does the ferry leave from?"
FORMS: list[tuple[dict[str, Any], Item]] = [
    (
        {"question": ASKED, "answer": "the old pier"},
        Question("f", 1, [{"role": "user", "content": ASKED}], ["the old pier"]),
    ),
    (
        {"question": ASKED, "answers": ["the pier", "pier 3"]},
        Question("f", 1, [{"role": "user", "content": ASKED}], ["the pier", "pier 3"]),
    ),
    (  # SQuAD
        {"id": "1", "context": "A ferry.", "question": ASKED, "answers": {"text": ["pier"], "answer_start": [3]}},
        Question("f", 1, [{"role": "user", "content": f"A ferry.\n\n{ASKED}"}], ["pier"]),
    ),
    ({"question": "How many?", "answer": 7}, Question("f", 1, [{"role": "user", "content": "How many?"}], ["7"])),
    (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        Question("f", 1, [{"role": "user", "content": "Hi"}], ["Hello"]),
    ),
    (
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        Question("f", 1, [{"role": "user", "content": "Add.\n\n1, 2"}], ["3"]),
    ),
    # MMLU of the hub, its CSV under a header, ARC, HellaSwag's labels, and the choice by its text
    ({"question": ASKED, "choices": ["a pier", "a hill"], "answer": 1}, Choice("f", 1, ASKED, ["a pier", "a hill"], 1)),
    ({"question": ASKED, "A": "a pier", "B": "a hill", "answer": "B"}, Choice("f", 1, ASKED, ["a pier", "a hill"], 1)),
    (
        {"question": ASKED, "choices": {"text": ["a pier", "a hill"], "label": ["1", "2"]}, "answerKey": "1"},
        Choice("f", 1, ASKED, ["a pier", "a hill"], 0),
    ),
    (
        {"question": ASKED, "choices": ["a pier", "a hill"], "label": "1"},
        Choice("f", 1, ASKED, ["a pier", "a hill"], 1),
    ),
    (
        {"question": ASKED, "choices": ["a pier", "a hill"], "answer": "a hill"},
        Choice("f", 1, ASKED, ["a pier", "a hill"], 1),
    ),
    ({"question": "3 + 1?", "choices": ["4", "0"], "answer": 1}, Choice("f", 1, "3 + 1?", ["4", "0"], 1)),
    ({"text": "Tide tables of May."}, TextItem("f", 1, "Tide tables of May.")),
]


@pytest.mark.parametrize(("record", "item"), FORMS)
def test_forms_are_told_by_their_keys(record: dict[str, Any], item: Item) -> None:
    assert parse_item(record, "f", 1) == item


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": "x", "completion": "y"}, "keys of no known form: completion, prompt. Known: question with"),
        ({"question": ASKED}, "answer: must be text or a list of texts"),
        ({"question": ASKED, "answers": []}, "answer: must be text"),
        ({"question": " ", "answer": "x"}, "question: must be text"),
        ({"question": ASKED, "choices": ["one"], "answer": 0}, "choices: must be a list of at least two"),
        ({"question": ASKED, "choices": ["a", "a"], "answer": 0}, "choices: are empty or repeat"),
        ({"question": ASKED, "choices": ["x", "y"], "answer": 2}, "answer: must name one of the 2 choices"),
        ({"question": ASKED, "choices": ["x", "y"], "answer": "C"}, "by A to B or by its number from 0, found 'C'"),
        ({"question": ASKED, "choices": ["x", "y"], "answer": True}, "answer: must name one of the 2 choices"),
        ({"question": ASKED, "choices": ["x", "y"]}, "answer: must name one of the 2 choices"),
        ({"text": 7}, "text: must be text, found 7"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "the last message must be the assistant's answer"),
        ([1], "a record must be an object, found list"),
    ],
)
def test_what_is_no_item_says_which_key(record: Any, said: str) -> None:
    with pytest.raises(RejectedRecord) as rejected:
        parse_item(record, "f", 1)
    assert said in str(rejected.value)


def table(delimiter: str) -> str:
    stream = io.StringIO()
    rows = csv.writer(stream, delimiter=delimiter)
    rows.writerow(["id", "question", "A", "B", "answer"])
    rows.writerow(["1", 'Which is "far",\nsay; or near?', "the hill", "the sea", "B"])
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", table(",").encode()),
        ("b.csv", b"\xef\xbb\xbf" + table(";").encode()),  # as Excel writes it in Germany
        ("c.tsv", table("\t").encode()),
        (
            "d.csv",
            b'question,choices,answer\r\n"Which is ""far"",\nsay; or near?","[""the hill"", ""the sea""]",1\r\n',
        ),
    ],
)
def test_tables(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (item,) = read_file(tmp_path / name, tmp_path)
    assert item == Choice(f"evaluation/{name}", 1, 'Which is "far",\nsay; or near?', ["the hill", "the sea"], 1)


def test_files_of_records_and_of_text(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"text": "two"}]
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.json").write_text(json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    (tmp_path / "deep/d.txt").write_text("\ufeffone\n")
    (tmp_path / ".gitkeep").write_text("")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden/x.pdf").write_text("")
    files = files_of(tmp_path)
    assert [path.name for path in files] == ["a.jsonl", "b.json", "c.parquet", "d.txt"]
    for path in files[:3]:
        assert [item.texts() for item in read_file(path, tmp_path)] == [["one"], ["two"]]
    assert list(read_file(files[3], tmp_path)) == [TextItem("evaluation/deep/d.txt", 1, "one\n")]
    assert [item.name for item in benchmark_items(tmp_path)][-1] == "evaluation/deep/d.txt#1"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pdf", b"%PDF", r"evaluation/a\.pdf: cannot be read as an evaluation file \(.*Move it out of evaluation/"),
        ("a.txt", b" \n", r"evaluation/a\.txt, record 1: the file has no text"),
        ("a.txt", b"\xff\xfe\x00x", r"evaluation/a\.txt: cannot be read"),
        ("a.jsonl", b"\n", r"evaluation/a\.jsonl: holds no item"),
        ("a.jsonl", b'{"text": "x"}\n{"text": ', r"evaluation/a\.jsonl, record 2: not JSON"),
        ("a.csv", b"question,answer\n", r"evaluation/a\.csv: holds no item"),
        ("a.csv", b"question,answer\nx\n", r"evaluation/a\.csv, record 1: has another number of fields"),
        ("a.csv", b'question,answer\n"x,y\n', r"evaluation/a\.csv: cannot be read \(unexpected end of data\)"),
        ("a.json", b"{}", r"a\.json: must hold a list of records"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / name).write_bytes(content)
    for read in (lambda: benchmark_items(folder), lambda: EvaluateParams().check_paths(tmp_path)):
        with pytest.raises(UserError, match=said):
            read()


def test_what_is_scored_lies_in_the_folder_that_is_kept_out_of_training(tmp_path: Path) -> None:
    (tmp_path / FOLDER / "deep").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "deep/c.txt"):
        (tmp_path / FOLDER / name).write_text("x")
    chosen = lambda *patterns: [path.name for path in chosen_files(tmp_path, patterns)]  # noqa: E731
    assert chosen("evaluation") == chosen("evaluation/**/*.txt") == ["a.txt", "b.txt", "c.txt"]
    assert chosen("evaluation/b.txt", "evaluation/*.txt", "evaluation/deep") == ["b.txt", "a.txt", "c.txt"]
    with pytest.raises(UserError, match=r"evaluate\.files: no file matches evaluation/none\.jsonl"):
        EvaluateParams(files=("evaluation/none.jsonl",)).check_paths(tmp_path)
    for name in ("data/own.jsonl", "/evaluation/x.jsonl", "evaluation/../own.jsonl", "evaluations/x"):
        with pytest.raises(UserError, match=r"evaluate\.files: must lie in evaluation/, the folder that is kept out"):
            validate(EvaluateParams, {"files": [name]}, "params.yaml: evaluate")
    (tmp_path / "empty" / FOLDER).mkdir(parents=True)
    EvaluateParams().check_paths(tmp_path / "empty")
