"""A document that was read, or why it could not be; and zip archives within bounds, which many documents are."""

import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from tasks.formats.compressed import FREE_BYTES, MAX_RATIO

MAX_CHARACTERS = 100_000_000
"""Of one document's text: a bomb has more."""


@dataclass(frozen=True)
class DocumentContent:
    """What was read: text, title, and what its `meta` says (pages, sections, author, ...)."""

    text: str
    title: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


class UnreadableDocument(Exception):
    """A document gives no text: `reason`, a short snake_case name, and `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def open_zip(body: bytes) -> zipfile.ZipFile:
    """A zip archive whose files, all together, are of bounded size: what is declared there bounds what is read.

    Raises:
        UnreadableDocument: corrupt_file, encrypted, decompression_bomb.
    """
    if body.startswith(b"\xd0\xcf\x11\xe0"):  # OLE: the old format, and what Office makes of a file with a password
        encrypted = "EncryptedPackage".encode("utf-16-le") in body
        raise UnreadableDocument(
            *(("encrypted", "a password") if encrypted else ("corrupt_file", "OLE, the format of .doc"))
        )
    try:
        archive = zipfile.ZipFile(BytesIO(body))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise UnreadableDocument("corrupt_file", f"no zip archive: {error}") from None
    entries = archive.infolist()
    if any(entry.flag_bits & 1 for entry in entries):
        raise UnreadableDocument("encrypted", "a zip archive with a password")
    if (size := sum(entry.file_size for entry in entries)) > max(FREE_BYTES, MAX_RATIO * len(body)):
        raise UnreadableDocument("decompression_bomb", f"{size} bytes out of {len(body)}")
    return archive
