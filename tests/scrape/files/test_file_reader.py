"""Local files and data sets as sources: compressed, encoded, damaged, changing ones; what is not kept is counted."""

import bz2
import codecs
import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.documents import shards
from tasks.documents.shards import SCHEMA
from tasks.formats.compressed import DamagedFile, FileStream, split_lines
from tasks.scrape.files.file_reader import find_files
from tests.helpers.scraping import counted, files, pages, rows, scrape

pytestmark = pytest.mark.usefixtures("corpus")


def arrow(codec: str) -> Any:
    def compress(content: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(content)
        return bytes(sink.getvalue())

    return compress


CODECS = {".gz": gzip.compress, ".zst": arrow("zstd"), ".bz2": bz2.compress, ".lz4": arrow("lz4")}
LINES = [json.dumps({"text": f"text {n} {random.Random(n).randbytes(30).hex()}"}).encode() for n in range(5000)]
JSONL = b"\n".join(LINES) + b"\n"


@pytest.mark.parametrize("suffix", CODECS)
def test_compressed_files_are_as_their_content(corpus: Path, tmp_path: Path, suffix: str) -> None:
    compress = CODECS[suffix]
    (corpus / f"a.jsonl{suffix}").write_bytes(compress(JSONL[:3000]) + compress(JSONL[3000:]))
    (corpus / f"b.txt{suffix}").write_bytes(compress("Grüße aus Köln".encode()))
    (corpus / f"c.md{suffix}").write_bytes(compress(b"# Head\n\n- a list\n"))
    (corpus / f"d.html{suffix}").write_bytes(compress(b"<p>page</p>"))
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    texts = [row["text"] for row in rows(outputs)]
    assert texts == [*(json.loads(line)["text"] for line in LINES), "Grüße aus Köln", "# Head\n\n- a list\n"]
    assert pages(outputs, "mine")[f"file:corpus/d.html{suffix}"][1] == b"<p>page</p>"
    assert metrics["sources"]["mine"]["encodings"] == {"utf-8 (valid)": 5002}


@pytest.mark.parametrize("suffix", CODECS)
def test_truncated_files_give_what_is_whole(corpus: Path, tmp_path: Path, suffix: str) -> None:
    # Blocks of bzip2 and zstandard are up to 900 kB and 128 kB of text.
    many = b"\n".join(LINES * 6)
    whole = CODECS[suffix](many)
    (corpus / f"a.jsonl{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    kept = rows(outputs)
    assert [row["text"] for row in kept] == [json.loads(line)["text"] for line in (LINES * 6)[: len(kept)]]
    assert len(kept) > 9000
    assert counted(metrics)["truncated_file"] == 1
    assert counted(metrics).get("broken_json", 0) <= 1  # the line that the end of the file cuts
    assert rows(outputs, "removed")[-1]["detail"].startswith(f"corpus/a.jsonl{suffix}: after ")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_bombs_end_within_bounds(corpus: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.formats.compressed.FREE_BYTES", 1 << 18)
    (corpus / f"a.jsonl{suffix}").write_bytes(CODECS[suffix](b'{"text": "first"}\n' + b"\n" * 5_000_000))
    (corpus / f"b.txt{suffix}").write_bytes(CODECS[suffix](b"a" * 5_000_000))
    (corpus / f"c.jsonl{suffix}").write_bytes(CODECS[suffix](b'{"text": "' + b"x" * 210_000 + b'"}\n{"text": "last"}'))
    metrics, outputs = scrape(tmp_path, files("corpus/*", max_bytes=200_000))
    assert counted(metrics) == {"saved": 2, "decompression_bomb": 1, "too_large": 2}
    assert [row["text"] for row in rows(outputs)] == ["first", "last"]


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40)), st.integers(1, 30))
def test_lines_are_the_files_lines(tmp_path: Path, parts: list[bytes], limit: int) -> None:
    content = b"\n".join(parts)
    (tmp_path / "x").write_bytes(content)
    with FileStream(tmp_path / "x") as stream:
        found = list(split_lines(stream, limit))
    expected = list(enumerate(content.split(b"\n"), 1))
    whole = {number: line.rstrip(b"\r") for number, line in expected if len(line) <= limit and line.strip()}
    assert {number: line for number, line in found if isinstance(line, bytes)} == whole
    assert {number for number, line in found if isinstance(line, DamagedFile)} == {
        n for n, e in expected if len(e) > limit
    }


@pytest.mark.parametrize(
    ("content", "options", "label"),
    [
        ("\ufeff".encode() + b'{"text": "\xc3\xa4 1"}', {}, "utf-8 (mark)"),
        ('\ufeff{"text": "ä 1"}\n'.encode("utf-16-le"), {}, "utf-16 (mark)"),
        (codecs.BOM_UTF32_BE + '{"text": "ä 1"}\n'.encode("utf-32-be"), {}, "utf-32 (mark)"),
        (b'{"text": "\xe4 1"}\n', {"encoding": "latin-1"}, "cp1252 (declared)"),
        ('{"text": "ä 1"}\n'.encode("utf-16-be"), {}, "utf-16-be (content)"),
        ('{"text": "ä 1"}\n'.encode("utf-16-le"), {"encoding": "UTF-16-LE"}, "utf-16-le (declared)"),
    ],
)
def test_encodings_of_rows(corpus: Path, tmp_path: Path, content: bytes, options: dict[str, str], label: str) -> None:
    (corpus / "a.jsonl").write_bytes(content)
    metrics, outputs = scrape(tmp_path, files("corpus/*", **options))
    [row] = rows(outputs)
    assert row["text"] == "ä 1"
    assert metrics["sources"]["mine"]["encodings"] == {label: 1}
    assert json.loads(row["meta"]) == ({} if "utf-8" in label else {"encoding": label})


def test_a_guess_is_recorded_with_its_document(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a.txt").write_bytes("Grüße aus dem alten Köln, wo die Bäume blühen".encode("cp1252"))
    (corpus / "b.html").write_bytes("<p>Gr\u00fc\u00dfe</p>".encode("cp1252"))
    metrics, outputs = scrape(tmp_path, files("corpus/*.txt"))
    [row] = rows(outputs)
    [label] = metrics["sources"]["mine"]["encodings"]
    assert label.endswith("(content)")
    assert json.loads(row["meta"]) == {"encoding": label}
    _, outputs = scrape(tmp_path / "declared", files("corpus/*.html", encoding="cp1252"))
    record, _ = pages(outputs, "mine")["file:corpus/b.html"]
    assert record.content_type == "text/html; charset=cp1252"
    with pytest.raises(UserError, match="no encoding that browsers or Python know"):
        scrape(tmp_path, files("corpus/*", encoding="latin-99"))


def test_folders_of_a_website(corpus: Path, tmp_path: Path) -> None:
    (corpus / "deep" / "er").mkdir(parents=True)
    (corpus / "deep" / "er" / "a.htm").write_text("<p>a</p>")
    (corpus / "index.html").write_text("<p>i</p>")
    (corpus / "logo.png").write_bytes(b"\x89PNG")
    (corpus / "deep" / "loop").symlink_to(corpus)
    metrics, outputs = scrape(tmp_path, files("corpus"))
    assert set(pages(outputs, "mine")) == {"file:corpus/index.html", "file:corpus/deep/er/a.htm"}
    assert counted(metrics) == {"saved": 2, "unknown_kind": 1}
    twice, once = (
        find_files(patterns, Path.cwd(), "auto", "x") for patterns in (["corpus", "corpus/*.html"], ["corpus"])
    )
    assert [file.path for file in twice] == [file.path for file in once]


def test_markdown_keeps_its_marks_and_not_its_front_matter(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a.md").write_text("---\ntitle: A\nlicence: MIT\n---\n\n# A\n\n| a | b |\n|---|---|\n\n---\n\nend\n")
    (corpus / "b.markdown").write_text("no front matter\n---\nhere\n---\n")
    (corpus / "c.md").write_text("---\ntitle: nothing else\n---\n")
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    assert [(row["text"], json.loads(row["meta"])) for row in rows(outputs)] == [
        ("# A\n\n| a | b |\n|---|---|\n\n---\n\nend\n", {"front_matter": "title: A\nlicence: MIT"}),
        ("no front matter\n---\nhere\n---\n", {}),
    ]
    assert counted(metrics) == {"saved": 2, "empty": 1}


def test_nul_bytes_and_lone_surrogates(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a.jsonl").write_bytes(
        b'{"text": "a\\u0000b"}\n{"text": "a\x00b"}\n'
        + bytes(1000)
        + b'\n{"text": "\\ud83d"}\n{"text": "\xed\xa0\xbd"}\n'
        b'{"text": "\\ud83d\\ude00"}\n{"text": "x", "other": "\\udc00"}\n'
    )
    (corpus / "b.txt").write_bytes(b"text\x00" + b"of enough length " * 50)
    (corpus / "c.txt").write_bytes(b"a\xed\xa0\xbdb\x00\x01")
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    texts = [row["text"][:6] for row in rows(outputs)]
    assert texts == ["a\0b", "a\0b", "\ufffd", "\ufffd", "😀", "x", "text\0o"]
    assert counted(metrics) == {"saved": 7, "broken_json": 1, "unknown_encoding": 1}


@pytest.mark.parametrize(
    ("kind", "values", "kept"),
    [
        (pa.string(), ["one", None, ""], ["one"]),
        (pa.large_string(), ["one"], ["one"]),
        (pa.dictionary(pa.int32(), pa.string()), ["one", "two", "one"], ["one", "two"]),
        (pa.binary(), ["ä".encode(), b"a\xff", None], ["ä", "a\ufffd"]),
    ],
)
def test_parquet_columns_of_text(corpus: Path, tmp_path: Path, kind: pa.DataType, values: Any, kept: list[str]) -> None:
    column = pa.array(values, pa.string()).cast(kind) if pa.types.is_dictionary(kind) else pa.array(values, kind)
    pq.write_table(pa.table({"text": column}), corpus / "a.parquet")
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    assert sorted({row["text"] for row in rows(outputs)}) == sorted(kept)
    assert sum(counted(metrics).values()) == len(values)


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.list_(pa.string()), pa.timestamp("s"), pa.struct([("a", pa.string())])]
)
def test_parquet_columns_of_another_type_are_named(corpus: Path, tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.array([None], kind)}), corpus / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: column 'text' holds .*, no text\. Set text_column"):
        scrape(tmp_path, files("corpus/*"))


def test_parquet_strings_that_are_no_utf8(corpus: Path, tmp_path: Path) -> None:
    offsets, data = pa.py_buffer(b"\0\0\0\0\1\0\0\0\4\0\0\0\5\0\0\0"), pa.py_buffer(b"a\xed\xa0\xbdb")
    broken = pa.Array.from_buffers(pa.string(), 3, [None, offsets, data])
    pq.write_table(pa.table({"text": broken}), corpus / "a.parquet")
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    assert [row["text"] for row in rows(outputs)] == ["a", "\ufffd\ufffd\ufffd", "b"]
    assert counted(metrics) == {"saved": 3}


def test_a_damaged_row_group_costs_its_rows(corpus: Path, tmp_path: Path) -> None:
    texts = [f"row {n} {random.Random(n).randbytes(20).hex()}" for n in range(300)]
    pq.write_table(pa.table({"text": texts}), corpus / "a.parquet", row_group_size=100, use_dictionary=False)
    about = pq.ParquetFile(corpus / "a.parquet").metadata.row_group(1).column(0)
    content = bytearray((corpus / "a.parquet").read_bytes())
    at = about.data_page_offset
    content[at : at + about.total_compressed_size] = bytes(about.total_compressed_size)
    (corpus / "a.parquet").write_bytes(content)
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    assert [row["text"] for row in rows(outputs)] == texts[:100] + texts[200:]
    assert counted(metrics) == {"saved": 200, "corrupt_file": 1}
    assert "rows 101 to 200 (100 rows)" in rows(outputs, "removed")[0]["detail"]


@pytest.mark.parametrize("change", ["grows", "is replaced", "is gone"])
def test_a_file_that_changes_while_it_is_read(corpus: Path, change: str) -> None:
    path = corpus / "a.jsonl"
    path.write_bytes(JSONL)

    def meanwhile() -> None:
        if change == "grows":
            with path.open("ab") as more:
                more.write(b'{"text": "x"}\n')
        elif change == "is replaced":
            (corpus / "b").write_bytes(JSONL)
            (corpus / "b").replace(path)
        else:
            path.unlink()

    with FileStream(path) as stream:
        found = split_lines(stream, 10_000)
        next(found)
        meanwhile()
        with pytest.raises(UserError, match=r"a\.jsonl: changed while it was read"):
            list(found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a.txt").write_text("x")
    (corpus / "a.txt").chmod(0)
    with pytest.raises(UserError, match=r"a\.txt: cannot be read"):
        scrape(tmp_path, files("corpus/*"))


def test_many_removed_rows_need_no_memory(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a.jsonl").write_bytes(b'{"text": "good"}\n' + (b'{"body": "%s"}\n' % (b"x" * 1000)) * 6000)
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    assert counted(metrics) == {"saved": 1, "no_text": 6000}
    assert len(list((outputs / "removed").iterdir())) > 1
    assert {field.name for field in SCHEMA} <= set(rows(outputs, "removed")[0])


def test_short_rows_and_large_metadata_become_bounded_shards(corpus: Path, tmp_path: Path) -> None:
    empty, large = b'{"text": ""}\n', json.dumps({"text": "a", "about": "x" * 1000}).encode() + b"\n"
    (corpus / "a.jsonl").write_bytes(empty * (2 * shards.SHARD_ROWS + 1) + large * 10_000)
    metrics, outputs = scrape(tmp_path, files("corpus/*"))
    assert counted(metrics) == {"empty": 2 * shards.SHARD_ROWS + 1, "saved": 10_000}
    assert len(list((outputs / "removed").iterdir())) == 3
    assert len(list((outputs / "documents").iterdir())) == 2


FORMATS = ["jsonl", "parquet", "txt", "md", "html", "jsonl.gz", "txt.zst", "md.bz2"]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=80).map(lambda t: json.dumps({"text": t}).encode())), st.data()
)
def test_any_bytes_are_read_or_counted(tmp_path: Path, corpus: Path, content: bytes, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(FORMATS))
    pack = CODECS.get(f".{name.rpartition('.')[2]}", bytes) if data.draw(st.booleans()) else bytes
    (corpus / f"x.{name}").write_bytes(pack(content))
    (corpus / "good.txt").write_text("good")
    try:
        metrics, _ = scrape(tmp_path / f"{len(list(tmp_path.iterdir()))}", files(f"corpus/x.{name}", "corpus/good.txt"))
    except UserError as error:
        assert "x.parquet: " in str(error)  # noqa: PT017
    else:
        assert counted(metrics)["saved"] >= 1
    (corpus / f"x.{name}").unlink()
