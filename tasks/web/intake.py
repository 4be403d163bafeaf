"""What a source yields, written as it comes: documents, pages, and what is none with its reason. All of it is counted."""

from collections import Counter
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.text.documents import REMOVED_SCHEMA, DocumentWriter, document_id
from tasks.text.row_items import Item
from tasks.web.warc import WarcWriter

EXAMPLES = 3


class Intake:
    """Takes the items and pages of one source.

    Attributes:
        outcomes: how often what became of an item: `saved`, the reason of its removal, or what it is instead of text.
        encodings: how many documents were decoded how.
        bytes: UTF-8 bytes of the documents, and bytes of the pages.
    """

    def __init__(self, root: Path, source: str, licence: str | None) -> None:
        self.source, self.licence = source, licence
        self.outcomes: Counter[str] = Counter()
        self.encodings: Counter[str] = Counter()
        self.bytes = 0
        self.examples: list[str] = []
        self._others = 0
        self._seen: set[bytes] = set()
        self._documents = DocumentWriter(root / "documents", f"{source}-")
        self._removed: DocumentWriter | None = None
        self._removed_folder = root / "removed"
        self._pages = WarcWriter(root / "web" / source)

    @property
    def saved(self) -> int:
        """Documents and pages so far."""
        return self.outcomes["saved"]

    def add(self, item: Item) -> None:
        """A document, or something that is none."""
        row: dict[str, Any] = {
            "id": document_id(self.source, item.url, item.content),
            "text": item.text,
            "url": item.url,
            "source": self.source,
            "licence": self.licence,
            "fetched_at": item.fetched_at,
            "meta": item.meta,
        }
        reason, detail = item.reason, item.detail
        key = bytes.fromhex(row["id"])
        if reason is None and key in self._seen:
            # Same source, URL and content: the same document, and an id must name one.
            reason, detail, row["kept_id"] = "repeated", item.where, row["id"]
        if reason is not None:
            self._remove({**row, "reason": reason, "detail": detail}, reason)
            return
        self._seen.add(key)
        self.outcomes["saved"] += 1
        self.bytes += len(item.text.encode())
        if item.encoding:
            self.encodings[item.encoding] += 1
        self._documents.add(row)

    def page(self, url: str, body: bytes, record: bytes) -> None:
        """A page, whose text is a later stage's work: its `body` in a WARC `record`, a gzip member."""
        identity = document_id(self.source, url, body)
        key = bytes.fromhex(identity)
        if key in self._seen:
            row = {"id": identity, "url": url, "source": self.source, "licence": self.licence, "kept_id": identity}
            self._remove({**row, "reason": "repeated", "detail": url}, "repeated")
            return
        self._seen.add(key)
        self.outcomes["saved"] += 1
        self.bytes += len(body)
        self._pages.add(record)

    def other(self, what: str, count: int = 1) -> None:
        """Something that never was a document (a request, a picture): counted, not removed."""
        self.outcomes[what] += count
        self._others += count

    def finish(self) -> dict[str, Any]:
        """Close the files; returns the source's metrics.

        Raises:
            UserError: neither a document nor a page came; says why.
        """
        documents, pages = self._documents.close(), self._pages.close()
        removed = self._removed.close() if self._removed else 0
        if documents + pages + removed + self._others != self.outcomes.total():
            raise AssertionError(
                f"{self.source}: {documents} documents, {pages} pages, {removed} removed, {self._others} others: {self.outcomes}"
            )
        if not documents + pages:
            counted = ", ".join(f"{what} {count}" for what, count in self.outcomes.most_common() if count)
            why = "; ".join(self.examples) or counted or "there is nothing in it"
            raise UserError(f"scrape: source {self.source}: not one document: {why}. Mend it, or leave it out.")
        found = {"encodings": dict(sorted(self.encodings.items()))} if self.encodings else {}
        outcomes = {what: count for what, count in sorted(self.outcomes.items()) if count or what == "saved"}
        return {"documents": documents, "pages": pages, "bytes": self.bytes, "outcomes": outcomes, **found}

    def _remove(self, row: dict[str, Any], reason: str) -> None:
        if self._removed is None:
            self._removed = DocumentWriter(self._removed_folder, f"{self.source}-", REMOVED_SCHEMA)
        self.outcomes[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{reason} ({row['detail']})")
        self._removed.add(row)
