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

from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.core.stage import stage_main
from tasks.text import files, packages
from tasks.text.documents import REMOVED_SCHEMA, write_documents
from tasks.text.row_items import Columns, Item
from tasks.web import archives
from tasks.web.intake import Intake
from tasks.web.intake import metrics as intake_metrics
from tasks.web.sources import (
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
        names = {source.name for source in sources}
        if alike := sorted(name for name in names if f"web-{name}" in names):
            raise ValueError(f"web-{alike[0]} is what the files of {alike[0]} are called later; rename one of the two")
        return sources


def run(params: ScrapeParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Write `web/<source>/*.warc.gz`, `documents`, `removed`, `crawl/<source>.jsonl` and `sources.json`.

    `inputs` is empty: what is read is named in the parameters, paths relative to the working directory.

    Raises:
        UserError: a source yields nothing at all; says why.
    """
    metrics: dict[str, dict[str, Any]] = {}
    about: dict[str, dict[str, Any]] = {}
    for source in params.sources:
        if isinstance(source, WebSource | PydocSource):
            licence = source.licence
            metrics[source.name] = _crawl(source, outputs)
        else:
            licence, metrics[source.name] = _read(source, outputs)
        about[source.name] = {"kind": source.kind, "licence": licence, "robots": _robots(source)}
        log.info("scrape: %s: %s", source.name, metrics[source.name])
    for folder in ("documents", "removed"):
        if not (outputs / folder).exists():
            schema = {"schema": REMOVED_SCHEMA} if folder == "removed" else {}
            write_documents([], outputs / folder, **schema)
    write_json(outputs / "sources.json", about)
    totals = {name: sum(m[name] for m in metrics.values()) for name in ("documents", "pages", "bytes")}
    return {**totals, "sources": metrics}


def _robots(source: Source) -> str | None:
    """What each page of a source carries about robots.txt: the crawler saves none that it forbids."""
    if isinstance(source, WebSource | PydocSource):
        return "allowed"
    return source.robots if isinstance(source, WarcSource) else None


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


def _read(source: LocalSource, outputs: Outputs) -> tuple[str | None, dict[str, Any]]:
    """The licence and the metrics of a source that is read, not crawled."""
    licence, more = source.licence, {}
    if isinstance(source, HuggingFaceSource):
        from tasks.text.hub import Rows

        columns = Columns(source.text_column, source.messages_column)
        rows = Rows(source.dataset, source.config, source.split, source.revision, columns)
        licence = licence or rows.licence
        more = {"commit": rows.commit} if rows.commit else {}
    elif isinstance(source, PackageSource):
        licence = licence or packages.licence(source.package)
    elif isinstance(source, WarcSource):
        return licence, archives.read(source, outputs.root)
    intake = Intake(outputs.root, source.name, licence)
    if isinstance(source, FilesSource):
        _read_files(source, intake)
    else:
        items = rows.items() if isinstance(source, HuggingFaceSource) else packages.read(source.package)
        limit = source.max_documents if isinstance(source, HuggingFaceSource) else None
        for item in itertools.islice(items, limit):
            intake.add(item)
    return licence, {**intake_metrics(source.name, [intake.close()]), **more}


def _read_files(source: FilesSource, intake: Intake) -> None:
    """Documents of local files; HTML files become pages, for extraction is a later stage's work."""
    from tasks.web.warc import resource_record

    root = Path.cwd()
    found, others = files.find(source.paths, root, source.format, f"params.yaml: scrape.sources: {source.name}")
    if others:
        intake.other("unknown_suffix", len(others))
    columns = Columns(source.text_column, source.messages_column)
    how = files.Reading(columns, source.encoding, source.max_bytes)
    media = f"text/html; charset={source.encoding}" if source.encoding else "text/html"
    for path, kind in sorted(found, key=lambda file: file[1] == "html"):
        if kind != "html":
            for item in files.read(path, kind, root, how):
                intake.add(item)
            continue
        page = files.read_page(path, root, source.max_bytes)
        if isinstance(page, Item):
            intake.add(page)
        else:
            intake.page(*page, resource_record(page[0], media, page[1]))


if __name__ == "__main__":
    stage_main(run)
