"""Files of rows that somebody made to break, swell or hold up their reader: each row, or stretch of the file, is one outcome."""

import io
import json
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.conversations.instruction_formats import read_records
from tasks.core.errors import UserError
from tasks.formats.file_kinds import Format
from tasks.scrape.files.file_reader import ReadOptions, read_file, read_pages
from tasks.scrape.files.row_documents import Columns, ScrapedDocument

COLUMNS = Columns("text", "messages")
KINDS: tuple[Format, ...] = ("jsonl", "json", "csv", "tsv", "parquet", "mbox", "text")


def items(path: Path, kind: Format, max_bytes: int = 100_000) -> Iterator[ScrapedDocument]:
    if kind == "mbox":
        yield from (
            page for page in read_pages(path, kind, path.parent, max_bytes) if isinstance(page, ScrapedDocument)
        )
    else:
        yield from read_file(path, kind, path.parent, ReadOptions(COLUMNS, None, max_bytes))


def parquet(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **{"row_group_size": 2, **options})
    return file.getvalue()


TURNS = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
TABLE = pa.table(
    {"text": ["a", "b", None, "d" * 50], "messages": [TURNS, None, [], TURNS], "n": [[1], [], None, [2, 3]]}
)
BEGINNINGS: dict[Format, bytes] = {
    "jsonl": b'{"text": "a row"}\n{"messages": [{"role": "user", "content": "x"}]}\n[1]\n',
    "json": b'[{"text": "a row"}, {"text": 1}, "x", {"messages": {}}]',
    "csv": b'text,messages\r\n"a ""quoted"" row","[{}]"\r\nb,\r\n',
    "tsv": b'text\tmessages\na "row"\t[]\nb\t\n',
    "parquet": parquet(TABLE),
    "mbox": b"From a@b Sat Jan  3 01:05:34 2026\nSubject: x\n\nbody\n\nFrom c@d Sat Jan  3 01:05:34 2026\n\n",
    "text": b"text",
}
NOISE = st.binary(max_size=60) | st.sampled_from(
    [b"\0", b'"', b"\r", b"\xff\xfe", b"\x1f\x8b\x08", b"{" * 50, b"\\ud800", b"PAR1"]
)
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), NOISE), max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), CHANGES, st.booleans())
def test_any_bytes_are_rows_or_outcomes(kind: Format, changes: list[tuple[float, int, bytes]], anew: bool) -> None:
    content = b"" if anew else BEGINNINGS[kind]
    for where, length, instead in changes:
        at = int(where * len(content))
        content = content[:at] + instead + content[at + length :]
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{kind}"
        path.write_bytes(content)
        with suppress(UserError):  # such as columns that are not there
            for item in items(path, kind):
                assert item.reason is None or (item.reason and item.detail)
                item.text.encode()
                json.dumps(item.meta, default=str)
        if kind in ("jsonl", "json", "parquet"):
            with suppress(UserError):
                list(read_records(path))


def outcomes(path: Path, kind: Format, max_bytes: int = 100_000) -> dict[str, int]:
    return dict(Counter(item.reason or "saved" for item in items(path, kind, max_bytes)))


LARGE = "x" * 200_000


def test_a_row_that_is_too_large_costs_that_row(tmp_path: Path) -> None:
    rows = ["a", LARGE, "b"]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    (tmp_path / "x.csv").write_text("text\n" + "".join(f"{row}\n" for row in rows))
    (tmp_path / "x.tsv").write_text("text\tn\n" + "".join(f"{row}\t1\n" for row in rows))
    (tmp_path / "x.parquet").write_bytes(parquet(pa.table({"text": rows}), row_group_size=1))
    for kind in ("jsonl", "csv", "tsv", "parquet"):
        assert outcomes(tmp_path / f"x.{kind}", kind) == {"saved": 2, "too_large": 1}, kind
    (tmp_path / "x.csv").write_text("text\na\n" + '"x\n' * 5 + "y" * 200_000 + '\n"z"\nb\n')
    assert outcomes(tmp_path / "x.csv", "csv") == {"saved": 3, "broken_row": 5, "too_large": 1}


def test_records_that_never_end_are_read_in_time_as_they_are_long(tmp_path: Path) -> None:
    def seconds(size: int) -> float:
        (tmp_path / "x.csv").write_text(
            "text\n" + 'a","\n' * (size // 5)
        )  # each line ends a quoted field and begins one
        began = time.process_time()
        found = list(items(tmp_path / "x.csv", "csv", 10**8))
        assert {item.reason for item in found} == {"broken_row"}
        return time.process_time() - began

    seconds(1000)
    for _ in range(5):
        short, long = seconds(30_000), seconds(300_000)
        if long < 40 * short:
            return
    pytest.fail(f"{long:.2f} s, {long / short:.0f} times as long as a tenth of it")


def swelling(folder: Path) -> dict[str, Path]:
    """Files of a few KB: of one long value named a hundred times, of long lists of nothing, of pages that swell, ..."""
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200, np.int32)), pa.array(["word " * 200_000]))
    nothing = pa.ListArray.from_arrays(pa.array([0, 20_000_000], pa.int32()), pa.array(np.zeros(20_000_000, np.int8)))
    same = {
        "store_schema": False,
        "dictionary_pagesize_limit": 1 << 30,
        "row_group_size": 1 << 20,
        "compression": "zstd",
    }
    delta = {"column_encoding": {"text": "DELTA_BYTE_ARRAY"}, "use_dictionary": False, "row_group_size": 1 << 20}
    tables: dict[str, tuple[pa.Table, dict[str, Any]]] = {
        "a value named again and again": (pa.table({"text": one}), same),
        "a list of the same": (pa.table({"text": ["x"], "l": pa.ListArray.from_arrays([0, 200], one)}), same),
        "a list of nothing": (pa.table({"text": ["x"], "l": nothing}), same),
        "values that begin with those before": (pa.table({"text": ["a" * n for n in range(15_000)]}), delta),
        "pages": (
            pa.table({"text": ["x"], **{f"c{n}": ["y" * 1_000_000] for n in range(80)}}),
            {"compression": "brotli", "use_dictionary": False},
        ),
    }
    for number, (table, options) in enumerate(tables.values()):
        (folder / f"{number}.parquet").write_bytes(parquet(table, **options))
    return {name: folder / f"{number}.parquet" for number, name in enumerate(tables)}


def test_parquet_that_swells_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    files = swelling(tmp_path)
    assert max(path.stat().st_size for path in files.values()) < 40_000
    code = (
        "import re, sys; from collections import Counter; from pathlib import Path\n"
        "from tasks.scrape.files.parquet_files import read_parquet; from tasks.scrape.files.row_documents import Columns\n"
        "found = Counter(i.reason for i in read_parquet(Path(sys.argv[1]), 'u', Columns('text', 'messages'), 2_000_000))\n"
        "print(found['decompression_bomb'], int(re.search('VmHWM:\\s*(.*) kB', Path('/proc/self/status').read_text())[1]) >> 10)"
    )
    for name, path in files.items():
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        refused, used_mb = map(int, done.stdout.split())
        assert (refused, used_mb < 400) == (1, True), (name, done.stdout)


def test_parquet_that_is_large_by_right_is_read(tmp_path: Path) -> None:
    texts = [f"{number} " + "the same again and again " * 20 for number in range(3000)]
    kinds = [
        {},
        {"use_dictionary": False},
        {"data_page_version": "2.0"},
        {"compression": "none", "write_page_checksum": True},
    ]
    kinds += [{"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY", "l.list.element": "PLAIN"}}]
    for options in kinds:
        table = pa.table({"text": texts, "l": [[str(number)] * 3 for number in range(3000)]})
        (tmp_path / "x.parquet").write_bytes(parquet(table, row_group_size=1000, data_page_size=20_000, **options))
        assert [item.text for item in items(tmp_path / "x.parquet", "parquet")] == texts


def nested_schema(depth: int) -> bytes:
    """A Parquet file without rows whose only column lies in `depth` groups, one in the other."""

    def varint(number: int) -> bytes:
        return (
            b""
            if number < 0
            else bytes([number])
            if number < 128
            else bytes([number & 127 | 128]) + varint(number >> 7)
        )

    group, leaf = b"\x35\x02\x18\x01g\x15\x02\0", b"\x15\x0c\x25\x02\x18\x01t\0"
    footer = b"\x15\x02\x19\xfc" + varint(depth + 1) + group * depth + leaf + b"\x16\0\x19\x0c\0"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def test_columns_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(
        nested_schema(100_000)
    )  # pyarrow walks it on the stack, which ends the process
    assert outcomes(tmp_path / "x.parquet", "parquet") == {"corrupt_file": 1}
    (tmp_path / "x.parquet").write_bytes(nested_schema(5))
    with pytest.raises(UserError, match="has no column 'text'"):
        outcomes(tmp_path / "x.parquet", "parquet")


def test_an_empty_message_takes_no_room(tmp_path: Path) -> None:
    (tmp_path / "x.mbox").write_bytes(b"From a 00:00\n\n" * 1000)
    assert outcomes(tmp_path / "x.mbox", "mbox") == {"empty": 1000}
    assert len(list(read_pages(tmp_path / "x.mbox", "mbox", tmp_path, 1000))) == 1000
