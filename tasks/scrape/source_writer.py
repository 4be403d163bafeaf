"""The source writer: what a source yields, written as it comes; documents, pages, and what is none with its reason. All of it is counted.

Held are a shard's rows, and of each document and page its id, about 100 bytes, so that none is saved twice.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.documents.shards import REMOVED_SCHEMA, DocumentWriter, document_id
from tasks.scrape.files.row_documents import ScrapedDocument
from tasks.scrape.warc.warc_writer import WarcWriter

EXAMPLES = 3


@dataclass
class ScrapeCounts:
    """What came out of a source, or of a part of it.

    Attributes:
        outcomes: how often what became of a document or record: `saved`, the reason of its removal, or what it is instead of text.
        encodings: how many documents were decoded how; `repaired`: what was mended how often.
        size: UTF-8 bytes of the documents, and bytes of the pages.
        examples: the first few removals, in words.
        ids: the documents' and pages' ids, 16 bytes each.
    """

    documents: int = 0
    pages: int = 0
    removed: int = 0
    size: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    ids: bytes = b""


class SourceWriter:
    """Takes the items and pages of a source, or of the `part` of it that several are read of at the same time.

    Shards are named `<source>.<part>00000.parquet`: no name of a source has a dot, so none takes another's. What a
    worker that was lost has written of the same part is removed first.

    `known_ids`: ids that another part has; what has one of them is repeated.
    """

    def __init__(
        self, root: Path, source: str, licence: str | None, part: str = "", known_ids: Collection[bytes] = ()
    ) -> None:
        self.source, self.licence = source, licence
        self.counts = ScrapeCounts()
        self._skipped = 0
        self._known, self._seen = known_ids, set[bytes]()
        self._root, self._prefix = root, f"{source}.{part}"
        self._documents = DocumentWriter(root / "documents", self._prefix)
        self._removed = DocumentWriter(root / "removed", self._prefix, REMOVED_SCHEMA)
        self._pages = WarcWriter(root / "web" / source, part)
        for shards in (self._documents, self._removed, self._pages):
            _remove_leftovers(shards.path)

    @property
    def saved(self) -> int:
        """Documents and pages so far."""
        return self.counts.outcomes["saved"]

    def add_document(self, document: ScrapedDocument) -> None:
        """A document, or something that is none."""
        row: dict[str, Any] = {
            "id": document_id(self.source, document.url, document.content),
            "text": document.text,
            "url": document.url,
            "source": self.source,
            "licence": self.licence,
            "fetched_at": document.fetched_at,
            "meta": document.meta,
        }
        if document.reason is not None:
            self._remove(row, document.reason, document.detail)
        elif self._is_new(row, document.where):
            self.counts.size += len(document.text.encode())
            self.counts.repaired.update(document.repaired)
            if document.encoding:
                self.counts.encodings[document.encoding] += 1
            self._documents.add(row)

    def add_page(self, url: str, body: bytes, record: bytes) -> None:
        """A page, whose text is a later stage's work: its `body` in a WARC `record`, a gzip member."""
        identity = document_id(self.source, url, body)
        row = {"id": identity, "url": url, "source": self.source, "licence": self.licence}
        if self._is_new(row, url):
            self.counts.size += len(body)
            self._pages.add(record)

    def count_skipped(self, what: str, count: int = 1) -> None:
        """Something that never was a document (a request, a picture): counted, not removed."""
        self.counts.outcomes[what] += count
        self._skipped += count

    def close(self) -> ScrapeCounts:
        """Write what is left; returns the counts, asserted to account for everything."""
        counts = self.counts
        counts.documents = self._documents.close() if self._documents.rows else 0
        counts.removed = self._removed.close() if self._removed.rows else 0
        counts.pages = self._pages.close()
        counts.ids = b"".join(self._seen)
        if counts.documents + counts.pages + counts.removed + self._skipped != counts.outcomes.total():
            raise AssertionError(f"{self._prefix}: {self._skipped} others: {counts}")
        return counts

    def _is_new(self, row: dict[str, Any], where: str) -> bool:
        """False for the same source, URL and content again: the same document, and an id must name one."""
        key = bytes.fromhex(row["id"])
        if key in self._seen or key in self._known:
            self._remove({**row, "kept_id": row["id"]}, "repeated", where)
            return False
        self._seen.add(key)
        self.counts.outcomes["saved"] += 1
        return True

    def _remove(self, row: dict[str, Any], reason: str, detail: str | None) -> None:
        self.counts.outcomes[reason] += 1
        if len(self.counts.examples) < EXAMPLES:
            self.counts.examples.append(f"{reason} ({detail})")
        # Paths in the project are written from its root: the record is the same in every checkout.
        said = detail and detail.replace(f"{Path.cwd()}/", "")
        self._removed.add({**row, "reason": reason, "detail": said})


def _remove_leftovers(path: Callable[[int], Path]) -> None:
    left = list(itertools.takewhile(Path.exists, map(path, itertools.count())))
    for last in reversed(left):  # a kill in between leaves no gap, behind which the next try would not look
        last.unlink()


def source_metrics(source: str, parts: Sequence[ScrapeCounts]) -> dict[str, Any]:
    """A source's metrics.

    Raises:
        UserError: neither a document nor a page came; says why.
    """
    outcomes, encodings, repaired = (
        sum((getattr(part, name) for part in parts), Counter[str]()) for name in ("outcomes", "encodings", "repaired")
    )
    documents, pages, size = (sum(getattr(part, name) for part in parts) for name in ("documents", "pages", "size"))
    if not documents + pages:
        counted = ", ".join(f"{what} {count}" for what, count in outcomes.most_common())
        examples = [example for part in parts for example in part.examples][:EXAMPLES]
        why = "; ".join(examples) or counted or "there is nothing in it"
        raise UserError(f"scrape: source {source}: not one document: {why}. Mend it, or leave it out.")
    more = {name: dict(sorted(c.items())) for name, c in (("encodings", encodings), ("repaired", repaired)) if c}
    return {"documents": documents, "pages": pages, "bytes": size, "outcomes": dict(sorted(outcomes.items())), **more}
