"""Web archives as a source: everything readable out of what crawls leave behind, the rest counted with its reason."""

import base64
import gzip
import hashlib
import io
import json
import random
import re
import sys
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_scrape import pages, rows, scrape
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from tasks.clean import CleanParams
from tasks.clean import run as clean
from tasks.core.errors import UserError
from tasks.core.paths import Inputs, Outputs
from tasks.text.documents import read_documents
from tasks.web.http_message import Message, Unusable, decoded_body, parse
from tasks.web.warc_files import read_records
from tasks.web.warc_records import Lost, Record

DATE = "2025-03-04T05:06:07Z"
PROSE = "The quick brown fox jumps over the lazy dog while seven wizards watch from a distant hill and say nothing."


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "execution.yaml").write_text("workers: 1\n")


def record(kind: str, url: str, block: bytes, length: int | None = None, date: str = DATE, **headers: str) -> bytes:
    """A record, not compressed, as the standard's grammar has it; `length` may lie."""
    fields = {
        "WARC-Type": kind,
        "WARC-Target-URI": url,
        "WARC-Date": date,
        **{name.replace("_", "-"): value for name, value in headers.items()},
        "Content-Length": str(len(block) if length is None else length),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"WARC/1.0\r\n{head}\r\n".encode() + block + b"\r\n\r\n"


def response(
    url: str, body: bytes, head: str = "Content-Type: text/html", status: str = "200 OK", **options: Any
) -> bytes:
    block = f"HTTP/1.1 {status}\r\n{head}\r\n\r\n".encode() + body
    return record("response", url, block, Content_Type="application/http; msgtype=response", **options)


def page(n: object) -> bytes:
    return f"<html><body><p>{PROSE} Number {n} of them.</p></body></html>".encode()


def url(n: object) -> str:
    return f"https://e.org/{n}"


def read(tmp_path: Path, content: bytes, name: str = "x.warc.gz", **options: Any) -> tuple[Any, Outputs]:
    (tmp_path / name).write_bytes(content)
    return scrape(tmp_path / "run", {"name": "a", "kind": "warc", "paths": [name], **options})


def members(*records: bytes) -> bytes:
    return b"".join(gzip.compress(r, mtime=0) for r in records)


FORMS = {"members": members, "one member": lambda *r: gzip.compress(b"".join(r)), "plain": lambda *r: b"".join(r)}


@pytest.mark.parametrize("form", FORMS)
def test_each_kind_of_record(tmp_path: Path, form: str) -> None:
    archive = FORMS[form](
        record("warcinfo", "", b"software: x\r\n"),
        record("request", url(1), b"GET / HTTP/1.1\r\n\r\n"),
        response(url(1), page(1)),
        record("metadata", url(1), b"fetchTimeMs: 1"),
        record("revisit", url(1), b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        response(url(2), b"no", status="404 Not Found"),
        response(url(3), b"\x89PNG", "Content-Type: image/png"),
        record("resource", url(4), page(4), Content_Type="text/html"),
        record("conversion", url(5), "Größe".encode(), Content_Type="text/plain"),
        record("response", "dns:e.org", b"20250304\ne.org. 1 IN A 1.1.1.1", Content_Type="text/dns"),
        record("novelty", url(6), b"?"),
        response(url(7), b""),
    )
    metrics, outputs = read(tmp_path, archive, robots="obeyed", licence="CC0")
    assert metrics["sources"]["a"]["outcomes"] == {
        "saved": 3,
        "empty": 1,
        "http_status": 1,
        "no_text": 1,
        "not_http": 1,
        **dict.fromkeys(
            ("record_metadata", "record_request", "record_revisit", "record_unknown", "record_warcinfo"), 1
        ),
    }
    found = pages(outputs, "a")
    assert {name: body for name, (_, body) in found.items()} == {url(1): page(1), url(4): page(4)}
    assert found[url(4)][0].rec_headers.get_header("WARC-Date") == DATE
    [document] = rows(outputs)
    assert (document["url"], document["text"], document["licence"]) == (url(5), "Größe", "CC0")
    assert document["fetched_at"] == datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert json.loads(document["meta"])["robots"] == "obeyed"
    assert {r["reason"] for r in rows(outputs, "removed")} == {"http_status", "empty"}


def test_what_is_sound_is_copied_as_it_stands(tmp_path: Path) -> None:
    sound = [gzip.compress(response(url(n), page(n), WARC_Record_ID=f"<urn:x:{n}>"), mtime=0) for n in range(3)]
    _, outputs = read(tmp_path, b"".join(sound))
    assert (outputs / "web/a/00000-00000.warc.gz").read_bytes() == b"".join(sound)


def test_licence_time_robots_and_url_reach_clean(tmp_path: Path) -> None:
    _, outputs = read(tmp_path, members(response(url(1), page(1))), robots="obeyed", licence="CC0")
    result = Outputs(tmp_path / "clean", tmp_path / "work")
    clean(CleanParams(), Inputs({"scrape": outputs.root}), result)
    [row] = read_documents(result / "documents").to_pylist()
    assert (row["url"], row["licence"], row["source"]) == (url(1), "CC0", "a")
    assert row["fetched_at"].isoformat() == "2025-03-04T05:06:07+00:00"
    assert json.loads(row["meta"])["robots"] == "obeyed"


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


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(sorted(FORMS)))
def test_whatever_is_broken_is_counted(tmp_path: Path, data: st.DataObject, form: str) -> None:
    parts = [
        response(url(n), sent, f"Content-Type: text/html\r\n{head}") for n, (head, sent, _, _) in enumerate(BODIES)
    ]
    good = members(response(url("good"), page("good")))
    archive = bytearray(b"\r\n\r\n" + b"".join(parts) if form == "plain" else FORMS[form](*parts))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(archive) - 1))
        archive[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    (tmp_path / "x.warc.gz").write_bytes(bytes(archive))
    (tmp_path / "y.warc.gz").write_bytes(good)
    run = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    metrics, outputs = scrape(run, {"name": "a", "kind": "warc", "paths": ["x.warc.gz", "y.warc.gz"]})
    assert url("good") in pages(outputs, "a")
    assert metrics["sources"]["a"]["outcomes"]["saved"] == metrics["pages"]


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


def brotli(body: bytes) -> bytes:
    return pa.compress(body, codec="brotli", asbytes=True)


def zstd(body: bytes) -> bytes:
    return pa.compress(body, codec="zstd", asbytes=True)


def chunked(body: bytes, size: int = 50) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: x\r\n\r\n"


HTML = page("x")
BODIES: list[tuple[str, bytes, bytes, list[str]]] = [
    ("Transfer-Encoding: chunked", chunked(HTML), HTML, []),
    ("Transfer-Encoding: chunked", chunked(HTML)[:-40], HTML, ["body_incomplete"]),
    ("Transfer-Encoding: chunked", HTML, HTML, ["not_chunked"]),
    ("Content-Encoding: gzip", gzip.compress(HTML), HTML, []),
    ("Content-Encoding: gzip", HTML, HTML, ["not_compressed"]),
    ("Content-Encoding: gzip", gzip.compress(HTML) + b"junk", HTML, []),
    ("Content-Encoding: gzip", gzip.compress(HTML[:60]) + gzip.compress(HTML[60:]), HTML, []),
    ("Content-Encoding: deflate", zlib.compress(HTML), HTML, []),
    ("Content-Encoding: deflate", zlib.compress(HTML)[2:-4], HTML, []),
    ("Content-Encoding: deflate", HTML, HTML, ["not_compressed"]),
    ("Content-Encoding: br", brotli(HTML), HTML, []),
    ("Content-Encoding: br", HTML, HTML, ["not_compressed"]),
    ("Content-Encoding: zstd", zstd(HTML), HTML, []),
    ("Content-Encoding: gzip\r\nTransfer-Encoding: chunked", chunked(gzip.compress(HTML), 7), HTML, []),
    ("Content-Encoding: deflate, gzip", gzip.compress(zlib.compress(HTML)), HTML, []),
]


@pytest.mark.parametrize(("head", "sent", "body", "repairs"), BODIES)
def test_codings_of_bodies(head: str, sent: bytes, body: bytes, repairs: list[str]) -> None:
    message = parse(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + sent)
    found, noted = decoded_body(message, 10_000)
    assert body.startswith(found) if "body_incomplete" in noted else found == body
    assert len(found) > 100
    assert noted == repairs


def test_coded_bodies_arrive_in_clean(tmp_path: Path) -> None:
    archive = members(
        *(response(url(n), sent, f"Content-Type: text/html\r\n{head}") for n, (head, sent, _, _) in enumerate(BODIES))
    )
    metrics, outputs = read(tmp_path, archive)
    assert metrics["pages"] == len(BODIES)
    result = Outputs(tmp_path / "clean", tmp_path / "work")
    clean(CleanParams(), Inputs({"scrape": outputs.root}), result)
    texts = {row["url"]: row["text"] for row in read_documents(result / "documents").to_pylist()}
    assert len(texts) == len(BODIES)
    assert {at: text for at, text in texts.items() if text != f"{PROSE} Number x of them." and at != url(1)} == {}


@pytest.mark.parametrize(
    ("head", "sent", "reason"),
    [
        ("Content-Encoding: gzip", b"\x1f\x8b" + bytes(100), "undecodable"),
        ("Content-Encoding: gzip", b"\x00\xff\xfe" * 30, "undecodable"),
        ("Content-Encoding: sdch", HTML, "undecodable"),
        ("Content-Encoding: br", b"\xff\xfe\x80" * 50, "undecodable"),
        ("Content-Encoding: gzip", gzip.compress(bytes(1_000_000)), "too_large"),
        ("Content-Encoding: br", brotli(bytes(1_000_000)), "too_large"),
        ("Content-Encoding: deflate", zlib.compress(bytes(1_000_000)), "too_large"),
        ("X: y", bytes(10_001), "too_large"),
    ],
)
def test_bodies_that_cannot_be_had(head: str, sent: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as raised:
        decoded_body(parse(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + sent), 10_000)
    assert raised.value.reason == reason


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br", "zstd", "identity", "chunked"]))
def test_any_body_is_decoded_or_refused(body: bytes, coding: str) -> None:
    headers = [("Transfer-Encoding" if coding == "chunked" else "Content-Encoding", coding)]
    with suppress(Unusable):
        found, _ = decoded_body(Message("HTTP/1.1", 200, headers, body), 1000)
        assert len(found) <= 1000


def test_records_that_say_too_little(tmp_path: Path) -> None:
    archive = members(
        response(url(1), page(1), date="yesterday"),
        response(url(2), page(2), date="20250304050607"),
        response(f"<{url(3)}>", page(3)),
        response("", page(4)),
        record("response", url(5), b"nonsense", Content_Type="application/http; msgtype=response"),
        response(url(6), page(6), WARC_Truncated="length"),
        response(url(7), page(7), WARC_Segment_Number="1"),
        response(url(8), page(8), "X: y", WARC_Identified_Payload_Type="application/pdf"),
    )
    metrics, outputs = read(tmp_path, archive)
    assert metrics["sources"]["a"]["outcomes"] == {
        "saved": 4,
        **dict.fromkeys(("broken_http", "no_text", "no_url", "segmented"), 1),
    }
    assert metrics["sources"]["a"]["repaired"] == {"cut_by_crawler": 1}
    found = pages(outputs, "a")
    assert set(found) == {url(n) for n in (1, 2, 3, 6)}
    assert found[url(1)][0].rec_type == "resource"  # a time that nobody knows
    assert found[url(2)][0].rec_headers.get_header("WARC-Date") == DATE


def test_digests_tell_of_damage_that_nothing_else_does(tmp_path: Path) -> None:
    parts = []
    for n, form in enumerate(("sha1:{32}", "sha1:{16}", "sha256:{16}", "unknown:x", "")):
        block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page(n)
        digest = hashlib.new("sha256" if "256" in form else "sha1", block).digest()
        stated = form.replace("{32}", base64.b32encode(digest).decode()).replace("{16}", digest.hex().upper())
        parts.append(record("response", url(n), block, **({"WARC_Block_Digest": stated} if stated else {})))
    whole = b"".join(parts)
    assert "repaired" not in read(tmp_path, whole)[0]["sources"]["a"]
    metrics, outputs = read(tmp_path, whole.replace(b"seven", b"eight"))
    assert metrics["sources"]["a"]["repaired"] == {"digest_differs": 3}
    assert len(pages(outputs, "a")) == 5


def test_limits_globs_and_lists(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / f"{n}.warc.gz").write_bytes(members(*(response(url(f"{n}/{m}"), page(m)) for m in range(3))))
    source = {"name": "a", "kind": "warc", "paths": ["*.warc.gz"]}
    assert scrape(tmp_path / "all", source)[0]["sources"]["a"] | {"bytes": 0} == {
        "documents": 0,
        "pages": 12,
        "bytes": 0,
        "files": 4,
        "outcomes": {"saved": 12},
    }
    _, outputs = scrape(tmp_path / "some", {**source, "max_pages": 4})
    assert list(pages(outputs, "a")) == [url(f"0/{m}") for m in range(3)] + [url("1/0")]
    assert scrape(tmp_path / "two", {**source, "max_files": 2})[0]["pages"] == 6
    (tmp_path / "warc.paths.gz").write_bytes(gzip.compress(b"1.warc.gz\n\n3.warc.gz\n"))
    listed = {**source, "paths": ["warc.paths.gz"], "prefix": f"file://{tmp_path}/"}
    _, outputs = scrape(tmp_path / "listed", listed)
    assert {name[:16] for name in pages(outputs, "a")} == {url("1/"), url("3/")}


@pytest.mark.parametrize(
    ("paths", "content", "message"),
    [
        (["none*.warc.gz"], b"", "matches no file"),
        (["x.warc.gz"], b"", "not one document: there is nothing in it"),
        (["x.warc.gz"], b"this is no archive", "broken_record"),
        (["x.warc.gz"], gzip.compress(b"nor is this", mtime=0), "holds no WARC record"),
        (["x.warc.gz"], members(record("request", "u", b"x")), "record_request 1"),
        (["s3://bucket/x.warc.gz"], b"", "pip install s3fs"),
        (["nosuch://x/y.warc.gz"], b"", "nosuch"),
    ],
)
def test_archives_that_yield_nothing_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], content: bytes, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    with pytest.raises(UserError, match=re.escape(message)):
        read(tmp_path, content, paths=paths)


def test_the_same_whatever_the_number_of_workers(tmp_path: Path) -> None:
    for n in range(5):  # the second page of each file is also in the file before, and twice in this one
        own = [response(url(f"{n}/{m}"), page(m)) for m in range(3)]
        shared = [response(url(f"shared/{k}"), page(k)) for k in (n, n, n + 1)]
        texts = [record("conversion", url(f"text/{k}"), b"text", Content_Type="text/plain") for k in (n, n + 1)]
        (tmp_path / f"{n}.warc.gz").write_bytes(members(*own, *shared, *texts))
    source = {"name": "a", "kind": "warc", "paths": ["*.warc.gz"]}
    results = []
    for workers, more in ((1, {}), (2, {}), (1, {"max_pages": 1000})):
        (tmp_path / "execution.yaml").write_text(f"workers: {workers}\n")
        run = tmp_path / f"run{len(results)}"
        metrics, outputs = scrape(run, {**source, **more})
        files = {p.relative_to(outputs.root): p.read_bytes() for p in outputs.root.rglob("*.*")}
        results.append((metrics, files))
    assert results[0] == results[1] == results[2]
    assert results[0][0]["sources"]["a"]["outcomes"] == {"saved": 15 + 6 + 6, "repeated": 5 + 4 + 4}
    assert len({row["id"] for row in rows(outputs)}) == 6
