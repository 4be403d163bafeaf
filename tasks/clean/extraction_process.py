"""Extraction in a process of its own, so that a page or document on which a parser hangs, crashes or fills the memory is
all that is lost.
"""

from functools import cache, partial
from typing import TypeVar

from tasks.clean.html.extract import ExtractionOptions, extract_page
from tasks.clean.readers import document_reader
from tasks.clean.readers.document_content import DocumentContent, UnreadableDocument
from tasks.core.parallel.isolated_worker import MEMORY_BYTES, IsolatedWorker, IsolatedWorkFailed

DOCUMENT_MEMORY_BYTES = 2 << 30
"""Of documents, which strangers make to swell: several workers may each have one at a time."""
R = TypeVar("R")
Failure = tuple[str, str]


class ExtractionFailed(Exception):
    """A page gave no text: reason and detail."""


class Extractor(IsolatedWorker):
    """A process that extracts one page at a time."""

    def extract(self, html: str, options: ExtractionOptions, seconds: float) -> tuple[str, str]:
        """Text and title of a page.

        Raises:
            ExtractionFailed: it took more than `seconds` of processor time (extraction_timeout), the process
                ended, most often for memory (extraction_crashed), or the parser refused (extraction_error).
        """
        work = partial(self.call, extract_page, html, options, seconds=seconds, memory_bytes=MEMORY_BYTES)
        return _told(partial(work, prepare=partial(_load, options.extraction)))

    def read_document(self, kind: str, body: bytes, options: ExtractionOptions, seconds: float) -> DocumentContent:
        """What a document of a kind of `tasks.clean.readers.document_reader` says.

        Raises:
            ExtractionFailed: as `extract`, or for the reason of `UnreadableDocument`.
        """
        work = partial(
            self.call, _read, kind, body, options.format, seconds=seconds, memory_bytes=DOCUMENT_MEMORY_BYTES
        )
        content = _told(partial(work, prepare=partial(_load, kind)))
        if isinstance(content, DocumentContent):
            return content
        raise ExtractionFailed(*content)


def _told(work: partial[R]) -> R:
    try:
        return work()
    except IsolatedWorkFailed as lost:
        raise ExtractionFailed(f"extraction_{lost.name}", lost.detail) from None


def _read(kind: str, body: bytes, format: str) -> DocumentContent | Failure:
    try:
        return document_reader.read_document(kind, body, format)
    except UnreadableDocument as problem:
        return problem.reason, problem.detail[:500]


@cache
def _load(parser: str) -> None:
    """Import a parser: that is not the page's time."""
    if parser in ("fast", "precise"):
        extract_page("<p>", ExtractionOptions(parser))
    else:
        document_reader.read_document(parser, b"", "text")


@cache
def extractor() -> Extractor:
    """The extractor of the running process."""
    return Extractor()
