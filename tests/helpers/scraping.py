"""Helpers of the tests of `scrape`: run it, read what it wrote, make web archives."""

import gzip
import json
from pathlib import Path
from typing import Any

from warcio.archiveiterator import ArchiveIterator

from tasks.core.params import validate
from tasks.core.paths import Inputs, Metrics, Outputs
from tasks.documents.shards import read_documents
from tasks.scrape.stage import ScrapeParams, run
from tests.helpers.site_server import Site


def scrape(folder: Path, *sources: dict[str, Any], before: Path | None = None) -> tuple[Metrics, Outputs]:
    outputs = Outputs(folder / "out", folder / "work", before)
    for path in (outputs.root, outputs.work):
        path.mkdir(parents=True, exist_ok=True)
    params = validate(ScrapeParams, {"sources": list(sources)}, "params.yaml: scrape")
    return run(params, Inputs({}), outputs), outputs


def web(site: Site, **options: Any) -> dict[str, Any]:
    usual = {"allow_private": True, "delay": 0, "retry_delay": 0.01, "timeout": 10, "start": [site.url + "/"]}
    return {"name": "site", "kind": "web", **usual, **options}


def crawl_log(outputs: Outputs, source: str = "site") -> dict[str, dict[str, Any]]:
    lines = (outputs / "crawl" / f"{source}.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert len({entry["url"] for entry in entries}) == len(entries)
    return {entry["url"]: entry for entry in entries}


def pages(outputs: Outputs, source: str = "site") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted((outputs / "web" / source).glob("*.warc.gz")):
        with path.open("rb") as file:
            for number, record in enumerate(ArchiveIterator(file), 1):
                assert number <= 100
                url = record.rec_headers.get_header("WARC-Target-URI")
                assert url not in found
                found[url] = (record, record.content_stream().read())
    return found


def files(*paths: str, **options: Any) -> dict[str, Any]:
    return {"name": "mine", "kind": "files", "paths": list(paths), "licence": "CC0-1.0", **options}


def rows(outputs: Outputs, folder: str = "documents") -> list[dict[str, Any]]:
    return list(read_documents(outputs / folder).to_pylist())


def outcomes(site: Site, outputs: Any) -> dict[str, str]:
    return {url.removeprefix(site.url): entry["outcome"] for url, entry in crawl_log(outputs).items()}


def counted(metrics: Any) -> dict[str, int]:
    """What became of the items of the source `mine`, and of how many."""
    return dict(metrics["sources"]["mine"]["outcomes"])


DATE = "2025-03-04T05:06:07Z"

PROSE = "The quick brown fox jumps over the lazy dog while seven wizards watch from a distant hill and say nothing."


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


def members(*records: bytes) -> bytes:
    return b"".join(gzip.compress(r, mtime=0) for r in records)


FORMS = {"members": members, "one member": lambda *r: gzip.compress(b"".join(r)), "plain": lambda *r: b"".join(r)}


def read(tmp_path: Path, content: bytes, name: str = "x.warc.gz", **options: Any) -> tuple[Any, Outputs]:
    (tmp_path / name).write_bytes(content)
    return scrape(tmp_path / "run", {"name": "a", "kind": "warc", "paths": [name], **options})
