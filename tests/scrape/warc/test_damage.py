"""Archives that are cut, damaged, wrong about themselves or very large: nothing else is lost, in bounded memory."""

import gzip
import io
import random
import struct
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from tasks.core.paths import Outputs
from tasks.http.response import UnusableResponse, parse_response
from tasks.scrape.archive_documents import read_archive
from tasks.scrape.source_writer import SourceWriter
from tasks.scrape.sources import WarcSource
from tasks.scrape.warc.warc_files import MAGIC, read_records
from tasks.scrape.warc.warc_records import DamagedSpan, WarcRecord, _headers
from tests.helpers.scraping import (
    FORMS,
    members,
    page,
    pages,
    read,
    record,
    response,
    rows,
    scrape,
    url,
)

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


@pytest.mark.parametrize("letter", ["\u00c5", "\u2028", "\u0085", "\x0b", "\x1c"])
def test_a_header_ends_where_its_line_ends(letter: str) -> None:
    """The UTF-8 of some letters has bytes, and some characters are, what Python takes for the end of a line."""
    value = f"/caf{letter}x"
    block = f"HTTP/1.1 200 OK\r\nLocation: {value}\r\nX: y\r\n\r\nbody".encode()
    message = parse_response(block)
    assert message.header("location").encode("latin-1").decode() == value
    assert (message.header("x"), message.body) == ("y", b"body")
    assert _headers(f"WARC/1.0\r\nWARC-Target-URI: {value}\r\nX: y".encode()) == {"warc-target-uri": value, "x": "y"}


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
    whole = [r for r in found if isinstance(r, WarcRecord) and r.block.endswith(page(1)) and not r.wrong_length]
    # Out of plain records nothing tells where one that is cut ends but the next one's own line.
    assert len(whole) >= (2 if form == "plain" else 3)
    assert all(isinstance(r, WarcRecord | DamagedSpan) for r in found)


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
    assert [r.block for r in ours if isinstance(r, WarcRecord)] == theirs
    assert not [r for r in ours if isinstance(r, DamagedSpan) or r.wrong_length or r.cut]
    if compressed:
        assert b"".join(r.member or b"" for r in ours if isinstance(r, WarcRecord)) == file.getvalue()


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
        found = [r.headers["warc-target-uri"] if isinstance(r, WarcRecord) else r for r in read_records(stream, 50_000)]
    assert tracemalloc.get_traced_memory()[1] < 6_000_000  # of 12 MB, and 24 MB decompressed
    tracemalloc.stop()
    urls = [name for name in found if isinstance(name, str)]
    # What comes out between the damage and gzip's checksum at the member's end, nothing vouches for.
    assert urls[:440] == [*map(url, range(300)), *(url(1000 + n) for n in range(140))]
    assert urls[-1] == url("last")
    assert "broken_record" in [r.reason for r in found if isinstance(r, DamagedSpan)]


KINDS = members(
    response(url(1), page(1)),
    response(url(2), gzip.compress(page(2)), "Content-Type: text/html\r\nContent-Encoding: gzip"),
    response(url(3), b"5\r\n<p>ab\r\n0\r\n\r\n", "Content-Type: text/html\r\nTransfer-Encoding: chunked"),
    record(
        "conversion", url(4), b"A text as WET files hold it.", Content_Type="text/plain", WARC_Block_Digest="sha1:AA"
    ),
    record("resource", url(5), page(5), Content_Type="text/html; charset=latin-1"),
    record("request", url(6), b"GET / HTTP/1.1\r\n\r\n"),
    response(url(7), b"gone", status="404 Not Found"),
)
CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 40),
        st.binary(max_size=40)
        | st.sampled_from(
            [b"WARC/1.0\r\n", b"\x1f\x8b\x08", b"\r\n\r\n", b"Content-Length: 9999999", b"WARC-Date: 0001-01-01"]
        ),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=120, deadline=None)
@given(CHANGES, st.sampled_from(sorted(FORMS)))
def test_whatever_is_in_an_archive_is_counted(changes: list[tuple[float, int, bytes]], form: str) -> None:
    content = KINDS if form == "members" else gzip.decompress(KINDS)
    for where, length, instead in changes:
        at = int(where * len(content))
        content = content[:at] + instead + content[at + length :]
    content = gzip.compress(content) if form == "one member" else content
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.warc.gz"
        path.write_bytes(content)
        writer = SourceWriter(Path(folder), "s", None)
        read_archive(str(path), WarcSource(name="s", paths=(str(path),)), writer, None)
        counts = writer.close()  # accounts for all
        refused = rows(Outputs(Path(folder), Path(folder), None), "removed") if counts.removed else []
    assert counts.outcomes.total() >= 1
    assert all("byte " in row["detail"] or "#" in row["detail"] for row in refused if row["reason"] != "repeated")


def nested(size: int) -> bytes:
    """Members within members: each is stored, so that the next begins in what it holds, and none ends."""
    unit = MAGIC + b"\0" * 7 + b"\x00" + struct.pack("<HH", 55, 65535 - 55) + b"WARC/1.0\r\na: b\r\n\r\n"
    unit += bytes(60 - len(unit))
    return unit * (size // len(unit))


SHAPES = {
    "magic numbers": lambda size: MAGIC * (size // 3),
    "headers of members": lambda size: (MAGIC + b"\0" * 7 + b"\x03\0") * (size // 12),
    "empty members": lambda size: gzip.compress(b"", 1, mtime=0) * (size // 20),
    "members within members": nested,
    "first lines": lambda size: b"WARC/1.0\n" * (size // 9),
    "first lines in a row": lambda size: b"WARC/1.0" * (size // 8),
    "line ends": lambda size: gzip.compress(b"\n" * size * 100),
    "zeros": lambda size: gzip.compress(b"\0" * size * 50),
    "lengths that lie": lambda size: (b"WARC/1.0\r\nContent-Length: 99999\r\n\r\nx\n") * (size // 37),
    "folded headers": lambda size: response(url(1), b"x", "A: b" + "\r\n c" * (size // 4)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_reading_takes_time_as_the_file_is_long(shape: str) -> None:
    def seconds(size: int) -> float:
        stream = io.BytesIO(SHAPES[shape](size))
        began = time.process_time()
        for found in read_records(stream, 10_000_000):
            if isinstance(found, WarcRecord) and found.kind == "response":
                with suppress(UnusableResponse):
                    parse_response(found.block)
        return time.process_time() - began

    seconds(1000)
    for _ in range(5):
        short, long = seconds(30_000), seconds(300_000)
        if long < max(40 * short, 0.3):
            return
    pytest.fail(f"{long:.2f} s, {long / short:.0f} times as long as a tenth of it")


def test_what_is_refused_takes_no_more_room_than_it_took(tmp_path: Path) -> None:
    tiny = b"WARC/1.0\r\nWARC-Type: resource\r\nContent-Length: 1\r\n\r\nx\r\n\r\n" * 5000
    named = members(*(record("response", "http://[" + "x" * 60_000, b"") for _ in range(50)))
    (tmp_path / "a.warc").write_bytes(tiny + b"WARC/1.0\n" * 5000)
    (tmp_path / "b.warc.gz").write_bytes(named + members(response(url(1), page(1))))
    source = {"name": "a", "kind": "warc", "paths": ["a.warc", "b.warc.gz"]}
    metrics, outputs = scrape(tmp_path / "run", source)
    assert metrics["sources"]["a"]["outcomes"] == {"saved": 1, "no_url": 5000, "bad_url": 50, "broken_record": 1}
    size = sum(path.stat().st_size for path in (outputs / "removed").iterdir())
    assert size < len(tiny) + len(named)
    assert max(len(row["url"] + row["detail"]) for row in rows(outputs, "removed")) < 3000
