"""Archives that are cut, damaged, wrong about themselves or very large: nothing else is lost, in bounded memory."""

import gzip
import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scraping import (
    FORMS,
    members,
    page,
    pages,
    read,
    response,
    rows,
    scrape,
    url,
)
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from tasks.web.warc_files import read_records
from tasks.web.warc_records import Lost, Record

pytestmark = pytest.mark.usefixtures("one_worker")


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file_gives_all_but_its_last_record(tmp_path: Path, form: str) -> None:
    noise = random.Random(5).randbytes(200_000).hex().encode()
    whole = FORMS[form](response(url(1), page(1)), response(url(2), page(2)), response(url(3), noise))
    metrics, outputs = read(tmp_path, whole[: len(whole) - 50_000])
    assert set(pages(outputs, "a")) == {url(1), url(2)}
    assert metrics["sources"]["a"]["outcomes"] == {"saved": 2, "truncated_record": 1}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lie", [0, 20, 60, 400, 5000, 10**9, 10**30, -5])
def test_a_wrong_length_costs_nothing(tmp_path: Path, form: str, lie: int) -> None:
    archive = FORMS[form](response(url(1), page(1)), response(url(2), page(2), length=lie), response(url(3), page(3)))
    metrics, outputs = read(tmp_path, archive)
    assert {name: body for name, (_, body) in pages(outputs, "a").items()} == {url(n): page(n) for n in (1, 2, 3)}
    assert metrics["sources"]["a"]["repaired"] == {"wrong_length": 1}


def test_a_page_that_holds_an_archive_is_one_page(tmp_path: Path) -> None:
    inner = b"<pre>" + response("http://evil.example/", page("inner")) + b"</pre>"
    _, outputs = read(tmp_path, response(url(1), inner) + response(url(2), page(2)), "x.warc")
    assert {name: body for name, (_, body) in pages(outputs, "a").items()} == {url(1): inner, url(2): page(2)}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 10_000), st.sampled_from(sorted(FORMS)))
def test_no_damage_costs_another_record(noise: bytes, cut: int, form: str) -> None:
    good, made = response(url(1), page(1)), FORMS[form]
    between = made(good)[: cut % len(made(good))] + noise
    found = list(read_records(io.BytesIO(made(good) + between + made(good, good)), 10_000))
    whole = [r for r in found if isinstance(r, Record) and r.block.endswith(page(1)) and not r.wrong_length]
    # Out of plain records nothing tells where one that is cut ends but the next one's own line.
    assert len(whole) >= (2 if form == "plain" else 3)
    assert all(isinstance(r, Record | Lost) for r in found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=8), st.booleans())
def test_sound_archives_read_as_by_warcio(blocks: list[bytes], compressed: bool) -> None:
    file = io.BytesIO()
    writer = WARCWriter(file, gzip=compressed)
    for number, block in enumerate(blocks):
        headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
        writer.write_record(
            writer.create_warc_record(url(number), "response", payload=io.BytesIO(block), http_headers=headers)
        )
    theirs = [r.raw_stream.read() for r in ArchiveIterator(io.BytesIO(file.getvalue()), no_record_parse=True)]
    ours = list(read_records(io.BytesIO(file.getvalue()), 100_000))
    assert [r.block for r in ours if isinstance(r, Record)] == theirs
    assert not [r for r in ours if isinstance(r, Lost) or r.wrong_length or r.cut]
    if compressed:
        assert b"".join(r.member or b"" for r in ours if isinstance(r, Record)) == file.getvalue()


def test_a_bit_that_flipped_costs_one_record(tmp_path: Path) -> None:
    parts = [gzip.compress(response(url(n), page(n)), mtime=0) for n in range(5)]
    at = len(parts[0]) + len(parts[1]) + len(parts[2]) // 2
    archive = bytearray(b"".join(parts))
    archive[at] ^= 0x10
    metrics, outputs = read(tmp_path, bytes(archive))
    assert set(pages(outputs, "a")) == {url(n) for n in (0, 1, 3, 4)}
    assert metrics["sources"]["a"]["outcomes"] == {"saved": 4, "broken_record": 1}
    [lost] = rows(outputs, "removed")
    assert lost["detail"].startswith(f"x.warc.gz, byte {len(parts[0]) + len(parts[1])}: ")


def test_large_records_are_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    import tracemalloc

    zeros = response(url(2), b"\0" * 60_000_000)
    archive = members(response(url(1), page(1)), zeros, response(url(3), page(3)))
    (tmp_path / "x.warc.gz").write_bytes(archive)
    del zeros
    tracemalloc.start()
    metrics, outputs = scrape(
        tmp_path / "run", {"name": "a", "kind": "warc", "paths": ["x.warc.gz"], "max_bytes": 100_000}
    )
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    assert metrics["sources"]["a"]["outcomes"] == {"saved": 2, "too_large": 1}
    assert set(pages(outputs, "a")) == {url(1), url(3)}


def test_one_large_member_for_all_records_in_bounded_memory(tmp_path: Path) -> None:
    import tracemalloc

    noise = [random.Random(n).randbytes(20_000).hex().encode() for n in range(300)]
    first = gzip.compress(b"".join(response(url(n), body) for n, body in enumerate(noise)))
    damaged = bytearray(gzip.compress(b"".join(response(url(1000 + n), body) for n, body in enumerate(noise))))
    at = len(damaged) // 2
    damaged[at : at + 2000] = b"\xff" * 2000
    (tmp_path / "x.warc.gz").write_bytes(first + bytes(damaged) + members(response(url("last"), page(1))))
    tracemalloc.start()
    with (tmp_path / "x.warc.gz").open("rb") as stream:
        found = [r.headers["warc-target-uri"] if isinstance(r, Record) else r for r in read_records(stream, 50_000)]
    assert tracemalloc.get_traced_memory()[1] < 6_000_000  # of 12 MB, and 24 MB decompressed
    tracemalloc.stop()
    urls = [name for name in found if isinstance(name, str)]
    # What comes out between the damage and gzip's checksum at the member's end, nothing vouches for.
    assert urls[:440] == [*map(url, range(300)), *(url(1000 + n) for n in range(140))]
    assert urls[-1] == url("last")
    assert "broken_record" in [r.reason for r in found if isinstance(r, Lost)]
