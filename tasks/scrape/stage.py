"""Fetch the text: crawl websites into WARC files; read files, web archives, data sets and packages into documents.

Every URL, file, row and line that was met is accounted for: in the pages and documents, in `removed` with its reason,
or in the crawl log with its outcome.
"""

import itertools
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from tasks.core.number_format import format_counts
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, count_rows, write_documents
from tasks.scrape import archive_source, file_source, package_conversations
from tasks.scrape.files.row_documents import Columns
from tasks.scrape.source_writer import ScrapeCounts, SourceWriter, source_metrics
from tasks.scrape.sources import (
    FilesSource,
    HuggingFaceSource,
    PackageSource,
    PydocSource,
    Source,
    WarcSource,
    WebSource,
)

LocalSource = FilesSource | WarcSource | HuggingFaceSource | PackageSource
log = logging.getLogger(__name__)


class ScrapeParams(StageParams):
    """Where the text comes from."""

    sources: tuple[Source, ...] = Field(
        (PydocSource(name="python-docs"), PackageSource(name="chitchat", package="chitchat-dataset", licence="MIT")),
        min_length=1,
        description="What to read; each has a name, a kind (web, pydoc, files, warc, huggingface, package) and the kind's own keys.",
    )

    @field_validator("sources")
    @classmethod
    def _unique(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        repeated = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
        if repeated:
            raise ValueError(f"every source needs a name of its own; {repeated[0]!r} stands there more than once")
        return sources

    def check_paths(self, root: Path) -> None:
        """Files and their columns, hosts, packages and programs of the sources."""
        from tasks.scrape.source_checks import check_source

        for source in self.sources:
            check_source(source, root)


def run(params: ScrapeParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Write `web/<source>/*.warc.gz`, `documents`, `removed`, `crawl/<source>.jsonl` and `sources.json`.

    `inputs` is empty: what is read is named in the parameters, paths relative to the working directory. Where there is an
    earlier output (`outputs.previous`), websites are asked for what has changed since.

    Raises:
        UserError: a source yields nothing at all; says why.
    """
    metrics: dict[str, dict[str, Any]] = {}
    about: dict[str, dict[str, Any]] = {}
    rows = {"documents": 0, "removed": 0}
    for source in params.sources:
        if isinstance(source, WebSource | PydocSource):
            licence = source.licence
            metrics[source.name] = _crawl(source, outputs)
        else:
            licence, counts, more = _read(source, outputs)
            metrics[source.name] = {**source_metrics(source.name, counts), **more}
            for folder in rows:
                rows[folder] += sum(getattr(part, folder) for part in counts)
        about[source.name] = {"kind": source.kind, "licence": licence, "robots": _robots(source)}
        log.info("scrape: %s: %s", source.name, format_counts(metrics[source.name]))
    for folder, counted in rows.items():
        if not (outputs / folder).exists():
            write_documents([], outputs / folder, schema=REMOVED_SCHEMA if folder == "removed" else SCHEMA)
        if (written := count_rows(outputs / folder)) != counted:
            raise AssertionError(f"scrape: {counted} rows were counted, {written} are in {outputs / folder}")
    write_json(outputs / "sources.json", about)
    totals = {name: sum(m[name] for m in metrics.values()) for name in ("documents", "pages", "bytes")}
    return {**totals, "sources": metrics}


def _robots(source: Source) -> str | None:
    """What each page of a source carries about robots.txt: the crawler saves none that it forbids."""
    if isinstance(source, WebSource | PydocSource):
        return "allowed"
    return source.robots if isinstance(source, WarcSource) else None


def _crawl(source: WebSource | PydocSource, outputs: Outputs) -> dict[str, Any]:
    from tasks.scrape import pydoc_server
    from tasks.scrape.crawler import crawl_process

    pages, crawl_log = outputs / "web" / source.name, outputs / "crawl" / f"{source.name}.jsonl"
    if isinstance(source, PydocSource):
        with pydoc_server.pydoc_server(outputs.work) as server:
            web = pydoc_server.as_web_source(source)
            crawled = crawl_process.crawl(
                web, outputs.work, pages, crawl_log, pydoc_server.SITE, server, outputs.previous
            )
    else:
        crawled = crawl_process.crawl(source, outputs.work, pages, crawl_log, before=outputs.previous)
    return {"documents": 0, "pages": crawled.pages, "bytes": crawled.bytes, "outcomes": crawled.outcomes}


def _read(source: LocalSource, outputs: Outputs) -> tuple[str | None, list[ScrapeCounts], dict[str, Any]]:
    """The licence of a source that is read, not crawled, the counts of its parts, and what else its metrics say."""
    if isinstance(source, WarcSource):
        counts = archive_source.read(source, outputs.root)
        return source.licence, counts, {"files": len(counts)}
    if isinstance(source, FilesSource):
        return source.licence, file_source.read(source, outputs.root), {}
    limit, more = None, {}
    if isinstance(source, HuggingFaceSource):
        from tasks.scrape.files.hub_datasets import HubDataset

        columns = Columns(source.text_column, source.messages_column)
        dataset = HubDataset(source.dataset, source.config, source.split, source.revision, columns, source.max_bytes)
        licence = source.licence or dataset.licence
        documents, limit = dataset.documents(outputs.work / "hub"), source.max_documents
        more = {"commit": dataset.commit} if dataset.commit else {}
    else:
        licence = source.licence or package_conversations.licence(source.package)
        documents = package_conversations.read(source.package)
    writer = SourceWriter(outputs.root, source.name, licence)
    for document in itertools.islice(documents, limit):
        writer.add_document(document)
    return licence, [writer.close()], more
