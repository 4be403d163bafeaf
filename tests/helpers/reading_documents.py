"""Reading documents of each kind, and what is said of those that give no text."""

import pytest

from tasks.clean.readers import by_kind
from tasks.clean.readers.read_document import Content, Unreadable


def read(kind: str, body: bytes | str, format: str = "text") -> Content:
    return by_kind.read(kind, body.encode() if isinstance(body, str) else body, format)


def reason(kind: str, body: bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        read(kind, body)
    assert caught.value.detail
    return caught.value.reason


def at(content: Content, kind: str = "sections") -> dict[str, str]:
    """Label → the first word there."""
    return {label: content.text[start:].split(maxsplit=1)[0] for start, label in content.about[kind]}
