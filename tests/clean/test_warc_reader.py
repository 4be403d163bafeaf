"""Bodies of archived pages: their codings undone, what is broken counted."""

import gzip
import random
import zlib
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.clean.stage import CleanParams
from tasks.clean.stage import run as clean
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import read_documents
from tasks.http.response import HttpResponse, UnusableResponse, decode_body, parse_response
from tests.helpers.scraping import (
    FORMS,
    PROSE,
    members,
    page,
    pages,
    read,
    response,
    scrape,
    url,
)

pytestmark = pytest.mark.usefixtures("one_worker")


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
    message = parse_response(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + sent)
    found, noted = decode_body(message, 10_000)
    assert body.startswith(found) if "body_incomplete" in noted else found == body
    assert len(found) > 100
    assert noted == repairs


UNDONE: list[tuple[str, bytes]] = [  # bodies whose codings were undone, while their headers still name them
    ("Transfer-Encoding: chunked", b"1\r\n00:00:01,000 --> 00:00:04,000\r\nThe committee will come to order.\r\n"),
    ("Transfer-Encoding: chunked", b"1984\r\nwas a year of many changes in the town.\r\n1985\r\nwas a calmer one.\r\n"),
    ("Transfer-Encoding: chunked", b"Dad\r\nwent to town, and we stayed at home and waited for him.\r\n"),
    (
        "Transfer-Encoding: chunked",
        b"1\r\na\r\n0\r\n\r\nwas the score, and the rest of the page tells how it came about",
    ),
    ("Transfer-Encoding: chunked", b"1\r\n2\r\n3\r\nfour\r\n"),
    ("Transfer-Encoding: chunked", b"0\r\nis where we begin to count\r\n"),
    ("Transfer-Encoding: chunked", "1905\r\nродился поэт, а через год и его брат\r\n".encode("cp1251")),
    ("Content-Encoding: gzip", "\ufeff<!DOCTYPE html><title>Straße</title><p>The old Straße was full.".encode()),
    ("Content-Encoding: gzip", "The Straße was full of people who had come to see the café open again.\n".encode()),
    ("Content-Encoding: gzip", "Старая мельница у реки мелет весь день, и пекарь ждёт муки.".encode("cp1251")),
    (
        "Content-Encoding: br",
        "강가의 오래된 물레방아는 하루 종일 밀을 빻고 빵집 주인은 밀가루를 기다린다.".encode("cp949"),
    ),
    ("Content-Encoding: deflate", b"Customers come and go, and the street stays as it was. " * 9),
    ("Content-Encoding: deflate", b"x^2 + y^2 = z^2 is what the page is about, and it begins like a zlib stream."),
    ("Content-Encoding: deflate", "Mühle".encode("cp1252") + b" und Bach, Wiese und Wald. " * 9),
    ("Content-Encoding: zstd", b"(\xb5 is a micro sign in Latin-1, and so the beginning of this text)"),
    ("Content-Encoding: gzip\r\nTransfer-Encoding: chunked", b"1984\r\nwas a year of many changes in the town.\r\n"),
]


@pytest.mark.parametrize(("head", "body"), UNDONE)
def test_a_repair_never_shortens_a_body_that_is_valid_as_it_is(head: str, body: bytes) -> None:
    found, noted = decode_body(parse_response(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body), 10_000)
    assert found == body
    assert set(noted) <= {"not_chunked", "not_compressed"}
    assert noted


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (chunked(HTML, 10**6)[:-30], HTML),  # cut off within its first chunk
        (chunked(HTML)[: -len(b"0\r\nTrailer: x\r\n\r\n")], HTML),
        (chunked(gzip.compress(HTML, mtime=0), 10**6)[:-40], gzip.compress(HTML, mtime=0)),
        (chunked(b"A text in chunks, of which the last ones are lost. " * 3, 20)[:90], b"A text in chunks"),
        (b"000003b\r\nA text of one chunk whose size is written with zeros before\r\n0\r\n\r\n", b"A text of one"),
    ],
)
def test_chunks_that_are_cut_off_are_chunks(sent: bytes, body: bytes) -> None:
    found, _ = decode_body(HttpResponse("HTTP/1.1", 200, [("Transfer-Encoding", "chunked")], sent), 10_000)
    assert len(found) > 30
    assert body.startswith(found) or found.startswith(body)
    assert b"\r\n" not in found


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
        ("Content-Encoding: br", random.Random(1).randbytes(150), "undecodable"),
        ("Content-Encoding: gzip", gzip.compress(bytes(1_000_000)), "too_large"),
        ("Content-Encoding: br", brotli(bytes(1_000_000)), "too_large"),
        ("Content-Encoding: deflate", zlib.compress(bytes(1_000_000)), "too_large"),
        ("X: y", bytes(10_001), "too_large"),
    ],
)
def test_bodies_that_cannot_be_had(head: str, sent: bytes, reason: str) -> None:
    with pytest.raises(UnusableResponse) as raised:
        decode_body(parse_response(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + sent), 10_000)
    assert raised.value.reason == reason


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br", "zstd", "identity", "chunked"]))
def test_any_body_is_decoded_or_refused(body: bytes, coding: str) -> None:
    headers = [("Transfer-Encoding" if coding == "chunked" else "Content-Encoding", coding)]
    with suppress(UnusableResponse):
        found, _ = decode_body(HttpResponse("HTTP/1.1", 200, headers, body), 1000)
        assert len(found) <= 1000


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
