"""Fetch the text: crawl websites into WARC files, read local files and packages into documents.

Every URL, file, row and line that was met is accounted for: in the pages and documents, in `removed` with its reason,
or in the crawl log with its outcome.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from tasks.core.errors import UserError
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.core.stage import stage_main
from tasks.text import files, packages
from tasks.text.documents import REMOVED_SCHEMA, document_id, write_documents
from tasks.text.files import Item
from tasks.web.sources import FilesSource, PackageSource, PydocSource, Source, WebSource

log = logging.getLogger(__name__)


class ScrapeParams(StageParams):
    """Where the text comes from."""

    sources: tuple[Source, ...] = Field(
        (PydocSource(name="python-docs"), PackageSource(name="chitchat", package="chitchat-dataset", licence="MIT")),
        min_length=1,
        description="What to read; each has a name, a kind (web, pydoc, files, package) and the kind's own keys.",
    )

    @field_validator("sources")
    @classmethod
    def _unique(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        repeated = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
        if repeated:
            raise ValueError(f"every source needs a name of its own; {repeated[0]!r} stands there more than once")
        return sources


def run(params: ScrapeParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Write `web/<source>/*.warc.gz`, `documents`, `removed`, `crawl/<source>.jsonl` and `sources.json`.

    `inputs` is empty: what is read is named in the parameters, paths relative to the working directory.

    Raises:
        UserError: a source yields nothing at all; says why.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for source in params.sources:
        if isinstance(source, FilesSource | PackageSource):
            metrics[source.name] = _local(source, outputs)
        else:
            metrics[source.name] = _crawl(source, outputs)
        log.info("scrape: %s: %s", source.name, metrics[source.name])
    for folder in ("documents", "removed"):
        if not (outputs / folder).exists():
            schema = {"schema": REMOVED_SCHEMA} if folder == "removed" else {}
            write_documents([], outputs / folder, **schema)
    write_json(outputs / "sources.json", {s.name: {"kind": s.kind, "licence": _licence(s)} for s in params.sources})
    totals = {name: sum(m[name] for m in metrics.values()) for name in ("documents", "pages", "bytes")}
    return {**totals, "sources": metrics}


def _licence(source: Source) -> str | None:
    return source.licence or (packages.licence(source.package) if isinstance(source, PackageSource) else None)


def _crawl(source: WebSource | PydocSource, outputs: Outputs) -> dict[str, Any]:
    from tasks.web import pydoc_server, site

    pages, crawl_log = outputs / "web" / source.name, outputs / "crawl" / f"{source.name}.jsonl"
    if isinstance(source, PydocSource):
        with pydoc_server.pydoc_server(outputs.work) as server:
            web = pydoc_server.as_web_source(source)
            crawled = site.crawl(web, outputs.work, pages, crawl_log, pydoc_server.SITE, server)
    else:
        crawled = site.crawl(source, outputs.work, pages, crawl_log)
    return {"documents": 0, "pages": crawled.pages, "bytes": crawled.bytes, "outcomes": crawled.outcomes}


def _local(source: FilesSource | PackageSource, outputs: Outputs) -> dict[str, Any]:
    """Documents of a source that needs no network; HTML files become pages, for extraction is a later stage's work."""
    found: list[tuple[Path, files.Format]] = []
    if isinstance(source, FilesSource):
        found = files.find(source.paths, Path.cwd(), source.format, f"params.yaml: scrape.sources: {source.name}")
        items = _file_items(source, [(path, kind) for path, kind in found if kind != "html"])
    else:
        items = packages.read(source.package)
    outcomes: Counter[str] = Counter()
    removed: list[dict[str, Any]] = []
    sizes: Counter[str] = Counter()
    rows = _documents(items, source.name, _licence(source), outcomes, removed, sizes)
    documents = write_documents(rows, outputs / "documents", f"{source.name}-")
    if removed:
        write_documents(removed, outputs / "removed", f"{source.name}-", REMOVED_SCHEMA)
    pages = _html_pages([path for path, kind in found if kind == "html"], source, outputs, sizes) if found else 0
    outcomes["saved"] += pages
    if documents + len(removed) + pages != sum(outcomes.values()):
        raise AssertionError(f"{source.name}: {documents} documents, {len(removed)} removed, {pages} pages: {outcomes}")
    if not documents + pages:
        why = "; ".join(f"{row['reason']} ({row['detail']})" for row in removed[:3]) or "there is nothing in it"
        raise UserError(f"scrape: source {source.name}: not one document: {why}. Mend it, or leave it out.")
    return {"documents": documents, "pages": pages, "bytes": sizes["bytes"], "outcomes": dict(sorted(outcomes.items()))}


def _file_items(source: FilesSource, found: Iterable[tuple[Path, files.Format]]) -> Iterator[Item]:
    for path, kind in found:
        yield from files.read(path, kind, Path.cwd(), source.text_column, source.messages_column)


def _documents(
    items: Iterable[Item],
    source: str,
    licence: str | None,
    outcomes: Counter[str],
    removed: list[dict[str, Any]],
    sizes: Counter[str],
) -> Iterator[dict[str, Any]]:
    """Items to rows of documents; those that are none go to `removed`. Counts both."""
    seen: set[str] = set()
    for item in items:
        row = {
            "id": document_id(source, item.url, item.content),
            "text": item.text,
            "url": item.url,
            "source": source,
            "licence": licence,
            "meta": item.meta,
        }
        reason, detail = item.reason, item.detail
        if reason is None and row["id"] in seen:
            # Same source, URL and content: the same document, and an id must name one.
            reason, detail, row["kept_id"] = "repeated", item.where, row["id"]
        outcomes[reason or "saved"] += 1
        if reason is not None:
            removed.append({**row, "reason": reason, "detail": detail})
            continue
        seen.add(str(row["id"]))
        sizes["bytes"] += len(item.text.encode())
        yield row


def _html_pages(paths: list[Path], source: FilesSource | PackageSource, outputs: Outputs, sizes: Counter[str]) -> int:
    from tasks.web.warc import resource_record, write_warcs

    def records() -> Iterator[bytes]:
        for path in paths:
            body = path.read_bytes()
            sizes["bytes"] += len(body)
            yield resource_record(files.file_url(path, Path.cwd()), "text/html", body)

    return write_warcs(records(), outputs / "web" / source.name) if paths else 0


if __name__ == "__main__":
    stage_main(run)
