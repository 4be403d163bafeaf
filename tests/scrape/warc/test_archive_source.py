"""Web archives as a source: everything readable out of what crawls leave behind, the rest counted with its reason."""

import base64
import gzip
import hashlib
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fsspec.registry import _registry

from tasks.clean.stage import CleanParams
from tasks.clean.stage import run as clean
from tasks.core.errors import UserError
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import read_documents
from tests.helpers.scraping import (
    DATE,
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
    monkeypatch.delitem(_registry, "s3", raising=False)  # nor was asked for before
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
