"""Reading documents of each kind, and what is said of those that give no text."""

import pytest

from tasks.clean.readers import document_reader
from tasks.clean.readers.document_content import DocumentContent, UnreadableDocument


def read(kind: str, body: bytes | str, format: str = "text") -> DocumentContent:
    return document_reader.read_document(kind, body.encode() if isinstance(body, str) else body, format)


def reason(kind: str, body: bytes) -> str:
    with pytest.raises(UnreadableDocument) as caught:
        read(kind, body)
    assert caught.value.detail
    return caught.value.reason


def at(content: DocumentContent, kind: str = "sections") -> dict[str, str]:
    """Label → the first word there."""
    return {label: content.text[start:].split(maxsplit=1)[0] for start, label in content.meta[kind]}
