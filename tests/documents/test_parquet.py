"""Parquet: no bit of a shard can turn without an error or without being of no consequence; all of it goes through one module."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.conversations.instruction_formats import read_records
from tasks.core.errors import UserError
from tasks.documents import parquet
from tasks.documents.shards import SCHEMA, count_rows, read_documents, read_shard, write_documents, write_shard
from tasks.scrape.files.hub_datasets import HubDataset
from tasks.scrape.files.parquet_files import read_parquet
from tasks.scrape.files.row_documents import Columns
from tests.helpers.checkout import ROOT

ROWS = [
    {"id": f"{n:032x}", "text": f"Text number {n}. " * (n % 7 + 1), "source": "s", "lang": "en", "meta": {"n": n}}
    for n in range(40)
]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    write_documents(ROWS, tmp_path / "documents")
    return tmp_path / "documents/00000.parquet"


def test_every_flipped_bit_is_an_error_or_of_no_consequence(shard: Path) -> None:
    whole, table = shard.read_bytes(), read_shard(shard)
    errors, silent = 0, []
    for at in range(len(whole)):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            if not read_shard(shard).equals(table):
                silent.append(at)
        except UserError:
            errors += 1
    assert silent == []
    assert errors > len(whole) / 2


@pytest.mark.parametrize("said", [parquet.CHECKSUM, parquet.ENTRY, parquet.ENTRY + b"00000000"])
def test_a_text_may_say_what_marks_the_checksum(tmp_path: Path, said: bytes) -> None:
    table = pa.table({"text": [said.decode()] * 3})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").equals(table)
    pq.write_table(pa.table({"text": ["textmill.footer_crc32", "textmill"]}), tmp_path / "b.parquet")
    assert len(parquet.read_table(tmp_path / "b.parquet")) == 2


@pytest.mark.parametrize("left", [0, 3, 8, 100, -1])
def test_what_is_cut_is_an_error_that_names_the_file(shard: Path, left: int) -> None:
    shard.write_bytes(shard.read_bytes()[:left])
    with pytest.raises(
        UserError, match=rf"{re.escape(str(shard))}: cannot be read as Parquet .*Remove it and start again"
    ):
        read_shard(shard)
    with pytest.raises((pa.ArrowException, OSError)):
        count_rows(shard.parent)


def test_it_is_ordinary_parquet_of_the_same_bytes(shard: Path, tmp_path: Path) -> None:
    table = read_documents(shard.parent)
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert parquet.read_schema(shard).equals(SCHEMA, check_metadata=True)
    assert count_rows(shard.parent) == len(ROWS)
    assert pq.read_table(shard).equals(table)
    write_shard(table, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == shard.read_bytes()


def test_what_the_footer_of_another_writer_says_is_kept(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]}).replace_schema_metadata({"theirs": "1"})
    pq.write_table(table, tmp_path / "x.parquet")
    assert read_shard(tmp_path / "x.parquet").schema.metadata == {b"theirs": b"1"}


def test_checksums_of_others_are_checked_where_there_are_any(tmp_path: Path) -> None:
    path, table = tmp_path / "train.parquet", pa.table({"text": [f"hello {n} there" for n in range(50)]})
    for checksums in (False, True):
        pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=checksums)
        assert (
            len(list(read_records(path)))
            == len(list(read_parquet(path, "u", Columns("text", "messages"), 1 << 20)))
            == 50
        )
        path.write_bytes(path.read_bytes().replace(b"hello 7 there", b"hallo 7 there"))
        dataset = HubDataset(str(tmp_path), None, "train", None, Columns("text", "messages"), 1 << 20)
        for items in (
            list(read_parquet(path, "u", Columns("text", "messages"), 1 << 20)),
            list(dataset.documents(tmp_path / "work")),
        ):
            assert [item.reason for item in items if item.reason] == (["corrupt_file"] if checksums else [])
    with pytest.raises(UserError, match="CRC"):
        list(read_records(path))


def test_nobody_reads_or_writes_it_past_the_checksums() -> None:
    past = re.compile(
        r"pyarrow\.parquet|pyarrow import .*parquet|pyarrow\.dataset|\bpq\.|\.to_parquet|pd\.read_parquet|duckdb"
    )
    code = [path for room in ("tasks", "flows") for path in (ROOT / room).rglob("*.py")]
    assert [path for path in code if path.name != "parquet.py" and past.search(path.read_text())] == []
    assert [path for path in code if "load_dataset(" in path.read_text()] == []
