"""A byte or half a character that is broken costs that character: not its row, not its file."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.conversations.instruction_formats import read_records
from tasks.formats.rows.json_rows import (
    RowDecoder,
    parse_json_values,
    replace_lone_surrogates,
)
from tests.helpers.scraping import files, rows, scrape


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "corpus").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "corpus"


HURT = [  # a line, and the text that it holds
    (b'{"text": "cut amid an emoji \\ud83d"}', "cut amid an emoji \ufffd"),
    (b'{"text": "\\udcf0 is a half, \\ud83d\\ude00 is whole"}', "\ufffd is a half, 😀 is whole"),
    (b'\xef\xbb\xbf{"text": "first of a second file"}', "first of a second file"),
    (b'{"text": "one stray byte \xe9 in it"}', "one stray byte \ufffd in it"),
    (
        '{"text": "eine Mühle, zwei Bäche, fünf große Vögel und süße Äpfel für Ölmüller '.encode() + b'\xff"}',
        "eine Mühle, zwei Bäche, fünf große Vögel und süße Äpfel für Ölmüller \ufffd",
    ),
    (b'{"text": "a\ttab"}', "a\ttab"),
    (
        b'{"text": "in CESU-8: \xed\xa0\xbd\xed\xb8\x80, and half of it: \xed\xa0\xbd"}',
        "in CESU-8: 😀, and half of it: \ufffd",
    ),
]


@pytest.mark.parametrize(("line", "text"), HURT)
def test_what_is_broken_costs_one_character(line: bytes, text: str) -> None:
    [row] = parse_json_values(RowDecoder().decode(line).text)
    assert row == {"text": text}


def test_every_reader_of_rows_keeps_them(corpus: Path, tmp_path: Path) -> None:
    wanted = [text for _, text in HURT]
    (corpus / "a.jsonl").write_bytes(b"\n".join(line for line, _ in HURT))
    (corpus / "b.json").write_bytes(b"[" + b",\n".join(line.removeprefix(b"\xef\xbb\xbf") for line, _ in HURT) + b"]")
    for name in ("a.jsonl", "b.json"):
        assert [record["text"] for _, record in read_records(corpus / name)] == wanted
        metrics, outputs = scrape(tmp_path / name, files(f"corpus/{name}"))
        assert [row["text"] for row in rows(outputs)] == wanted
        assert metrics["sources"]["mine"]["outcomes"] == {"saved": len(HURT)}


def test_files_joined_without_a_line_end(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a.jsonl").write_bytes(b'{"text": "1"}\xef\xbb\xbf{"text": "2"}\n{"text": "3"}{"text"\n')
    metrics, outputs = scrape(tmp_path / "run", files("corpus/a.jsonl"))
    assert [(row["url"], row["text"]) for row in rows(outputs)] == [
        ("file:corpus/a.jsonl#L1", "1"),
        ("file:corpus/a.jsonl#L1.2", "2"),
    ]
    assert metrics["sources"]["mine"]["outcomes"] == {"saved": 2, "broken_json": 1}


def test_rows_of_another_encoding_are_no_stray_bytes(corpus: Path, tmp_path: Path) -> None:
    text = "Старая мельница у реки мелет весь день, и пекарь ждёт муки."
    (corpus / "a.jsonl").write_bytes(3 * (json.dumps({"text": text}, ensure_ascii=False) + "\n").encode("cp1251"))
    metrics, outputs = scrape(tmp_path / "run", files("corpus/a.jsonl"))
    assert [row["text"] for row in rows(outputs)] == 3 * [text]
    assert metrics["sources"]["mine"]["encodings"] == {"cp1251 (content)": 3}


def test_messages_in_parquet_with_a_stray_byte(corpus: Path, tmp_path: Path) -> None:
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    of_bytes = pa.struct([("role", pa.binary()), ("content", pa.binary())])
    said = [[{"role": b"user", "content": b"caf\xe9?"}, {"role": b"assistant", "content": b"yes"}]]
    column = pa.array(said, pa.list_(of_bytes))
    offsets, values = column.offsets, column.values
    strings = pa.StructArray.from_arrays([values.field(n).view(pa.string()) for n in (0, 1)], fields=list(turn))
    pq.write_table(pa.table({"messages": pa.ListArray.from_arrays(offsets, strings)}), corpus / "a.parquet")
    metrics, outputs = scrape(tmp_path / "run", files("corpus/a.parquet"))
    [row] = rows(outputs)
    assert "caf\ufffd?" in row["text"]
    assert metrics["sources"]["mine"]["outcomes"] == {"saved": 1}


def test_rows_of_a_data_set_with_a_stray_byte(corpus: Path, tmp_path: Path) -> None:
    offsets = pa.array([0, 3, 7, 8], pa.int32()).buffers()[1]
    strings = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"onecaf\xe9z")])
    pq.write_table(pa.table({"text": strings, "n": [1, 2, 3]}), corpus / "a.parquet")
    pq.write_table(pa.table({"text": ["last"], "n": [4]}), corpus / "b.parquet")
    source = {"name": "mine", "kind": "huggingface", "dataset": str(corpus)}
    metrics, outputs = scrape(tmp_path / "run", source)
    assert [(row["text"], json.loads(row["meta"])["n"]) for row in rows(outputs)] == [
        ("one", 1),
        ("caf\ufffd", 2),
        ("z", 3),
        ("last", 4),
    ]
    assert metrics["sources"]["mine"]["outcomes"] == {"saved": 4}


@pytest.mark.parametrize("text", ["", "ä", "😀", "a\ud83d", "\ude00\ud83d"])
def test_well_formed_text_stays(text: str) -> None:
    mended = replace_lone_surrogates(text)
    mended.encode()
    assert mended == text or any("\ud800" <= character <= "\udfff" for character in text)
    assert len(mended.encode("utf-16-le")) == len(text.encode("utf-16-le", "surrogatepass"))
