"""Bodies of archived pages: their codings undone, what is broken counted."""

import gzip
import zlib
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scraping import (
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

from tasks.clean import CleanParams
from tasks.clean import run as clean
from tasks.core.paths import Inputs, Outputs
from tasks.text.documents import read_documents
from tasks.web.http_message import Message, Unusable, decoded_body, parse

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
