"""Rows out of web archives: each page decoded and its main text extracted, each document read, or the reason why not."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tasks.clean import warc_reader
from tasks.clean.extraction_process import ExtractionFailed, extractor
from tasks.clean.html import extract
from tasks.clean.html.extract import ExtractionOptions
from tasks.clean.normalize import normalize, unreadable_share
from tasks.clean.readers import document_reader
from tasks.clean.removal_reason import RemovalReason
from tasks.core.parallel.item_guard import ItemFailed, guard_item
from tasks.core.params import StageParams
from tasks.documents.shards import document_id
from tasks.formats.encodings.decode import decode_page
from tasks.formats.file_kinds import Format, require_package

Row = dict[str, Any]
MAX_UNREADABLE = 0.02
QUARANTINE_HINT = (
    "Set clean.quarantine: true in params.yaml to set such documents aside, and report it: it should not be."
)

log = logging.getLogger(__name__)


class ExtractionParams(StageParams):
    """What becomes text of a page, and the limits within which."""

    max_page_bytes: int = Field(10_000_000, ge=1, description="Bytes of a page; a larger one is removed unread.")
    max_document_bytes: int = Field(
        100_000_000, ge=1, description="Bytes of a document (PDF, DOCX, EPUB, LaTeX, e-mail); a larger one is removed."
    )
    max_page_seconds: float = Field(
        60.0, gt=0, description="Processor time to extract a page or document; one that takes longer is removed."
    )
    extraction: Literal["fast", "precise"] = Field(
        "fast", description="fast: resiliparse; precise: trafilatura, 10 to 15 times slower, with less boilerplate."
    )
    format: Literal["text", "markdown"] = Field("text", description="markdown marks headings, lists, tables and code.")
    main_content: bool = Field(True, description="Leave out navigation, headers and footers of pages.")
    quarantine: bool = Field(
        False,
        description="Remove what cannot be cleaned: a document that fails or takes minutes (failed, out_of_time), a file "
        "whose process is killed twice (worker_lost); otherwise the stage fails and names it.",
    )
    skip_elements: tuple[str, ...] = Field((), description="CSS selectors of further page elements to leave out.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.extraction == "precise" and not self.main_content:
            raise ValueError("extraction: precise takes the main content; with main_content: false use fast")
        return self


def read_page_rows(
    path: Path,
    source: str,
    licence: str | None,
    about_source: dict[str, Any],
    params: ExtractionParams,
    encodings: Counter[str],
    removed_for: RemovalReason = None,
) -> Iterator[tuple[Row, bool, RemovalReason]]:
    """(row, whether to decode entities, problem) for each page; `raw_bytes` is the size of its body.

    `about_source` goes into each page's `meta`; `encodings` counts how the pages were decoded. With `removed_for`
    each page has that problem, if none of its own, and no parser sees it.
    """
    for page in warc_reader.read_pages(path, params.max_page_bytes, params.max_document_bytes):
        row: Row = {
            "id": document_id(source, page.url, page.body),
            "text": None,
            "url": page.url,
            "source": source,
            "lang": None,
            "licence": licence,
            "fetched_at": page.fetched_at,
            "meta": None,
            "raw_bytes": len(page.body),
        }
        is_plain, problem = True, page.problem or removed_for
        if problem is None:
            try:
                with guard_item(describe_document(path, row), len(page.body), QUARANTINE_HINT):
                    is_plain, problem = _fill(row, page, about_source, params, encodings)
            except ItemFailed as failure:
                problem = quarantine_reason(failure, params.quarantine)
        yield row, is_plain, problem


def _fill(
    row: Row,
    page: warc_reader.FetchedPage,
    about_source: dict[str, Any],
    params: ExtractionParams,
    encodings: Counter[str],
) -> tuple[bool, RemovalReason]:
    """Put text and meta into the row of a page. Returns whether it was plain text, and the problem if there is one."""
    kind = extract.media_type(page.content_type, page.body)
    about = {"content_type": kind, **about_source}
    if document := document_reader.document_kind(kind, page.body):
        return False, _read(row, document, page.body, about, params)
    is_html = kind in extract.HTML_TYPES
    if not is_html and kind not in extract.PLAIN_TYPES:
        return True, ("content_type", kind)
    decoded = decode_page(page.body, page.charset, is_html)
    encodings[decoded.label] += 1
    row["text"] = decoded.text
    about |= decoded.meta
    row["meta"] = json.dumps(about, sort_keys=True)
    problem = unreadable_reason(row["text"])
    if problem is None and is_html:
        problem = _extract(row, about, params)
    return not is_html, problem


def describe_document(path: Path, row: Row) -> str:
    """A document in a message: its file, id and address."""
    return f"{path}: document {row['id']} ({row['url']})"


def quarantine_reason(failure: ItemFailed, quarantine: bool) -> tuple[str, str]:
    """The problem of a document that failed, under `quarantine`; said in the log.

    Raises:
        ItemFailed: there is no quarantine.
    """
    if not quarantine:
        raise failure
    log.warning("%s", failure)
    return failure.reason, failure.detail


def _read(row: Row, kind: Format, body: bytes, about: dict[str, Any], params: ExtractionParams) -> RemovalReason:
    require_package(kind, f"clean: {row['url']}")
    row["meta"] = json.dumps(about, sort_keys=True)
    try:
        content = extractor().read_document(
            kind, body, ExtractionOptions(format=params.format), params.max_page_seconds
        )
    except ExtractionFailed as failure:
        reason, detail = failure.args
        return reason, detail
    row["text"] = content.text
    said = {"title": normalize(content.title, False), **content.meta}
    row["meta"] = json.dumps({**about, **said}, ensure_ascii=False, sort_keys=True)
    return unreadable_reason(content.text)


def _extract(row: Row, about: dict[str, Any], params: ExtractionParams) -> RemovalReason:
    html = row["text"]
    if not extract.is_simple(html) and (complexity := extract.complexity(html)) > extract.MAX_COMPLEXITY:
        return "page_too_complex", f"{complexity} nested elements or attributes > {extract.MAX_COMPLEXITY}"
    options = ExtractionOptions(params.extraction, params.format, params.main_content, params.skip_elements)
    try:
        row["text"], title = extractor().extract(html, options, params.max_page_seconds)
    except ExtractionFailed as failure:
        reason, detail = failure.args
        return reason, detail
    row["meta"] = json.dumps({**about, "title": normalize(title, False)}, ensure_ascii=False, sort_keys=True)
    return None


def unreadable_reason(text: str) -> RemovalReason:
    """A problem where more than 2% of the characters are such as no text has."""
    share = unreadable_share(text)
    return ("unreadable", f"{share:.3f} of the characters > {MAX_UNREADABLE}") if share > MAX_UNREADABLE else None
