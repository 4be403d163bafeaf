"""Where in a document's text its pages and sections begin: kept in `meta`, and kept right when the text changes.

`meta` holds `pages` and `sections`, each a list of [start, label]: the character of the text at which it begins, and its
number or heading.
"""

import json
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

SectionOffsets = dict[str, list[tuple[int, str]]]
OFFSET_KINDS = ("pages", "sections")


class TextBuilder:
    """A text in the making, and the offsets of its pages and sections."""

    def __init__(self, max_characters: int) -> None:
        self.offsets: SectionOffsets = {}
        self._parts: list[str] = []
        self._size, self._max = 0, max_characters

    def begin(self, kind: str, label: str, offset: int = 0) -> None:
        """A page or section begins with the next part, or `offset` characters into it."""
        self.offsets.setdefault(kind, []).append((self._size + offset, label))

    def add(self, text: str, separator: str = "\n\n") -> None:
        """The next part, behind the separator if it is not the first; a blank one is left out.

        Raises:
            OverflowError: it is more than fits.
        """
        if not (text := text.strip("\n")).strip():
            return
        if self._parts:
            self._move(separator)
            self._parts.append(separator)
        self._parts.append(text)
        self._size += len(text)
        if self._size > self._max:
            raise OverflowError(f"more than {self._max} characters")

    @property
    def text(self) -> str:
        """All parts."""
        return "".join(self._parts)

    def _move(self, separator: str) -> None:
        for kind, offsets in self.offsets.items():
            self.offsets[kind] = [(at + len(separator) * (at >= self._size), label) for at, label in offsets]
        self._size += len(separator)


def map_sections(text: str, meta: dict[str, Any], change: Callable[[str], str]) -> str:
    """`text` with `change` made to each of its parts, whose offsets in `meta` are moved accordingly."""
    offsets = _offsets(meta, len(text))
    if not offsets:
        return change(text)
    starts = sorted({0, *(at for marks in offsets.values() for at, _ in marks)})
    moved: dict[int, int] = {}
    parts: list[str] = []
    size = 0
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        part = text[start:end]
        between = "\n" * min(len(part) - len(part.rstrip("\n")), 2) if end < len(text) else ""
        moved[start] = size
        if part := change(part):
            parts.append(part + between)
            size += len(parts[-1])
    meta |= {kind: [[moved[at], label] for at, label in marks] for kind, marks in offsets.items()}
    return "".join(parts).rstrip("\n")


def meta_without_lines(meta: str | None, before: str, after: str) -> str | None:
    """The `meta` of a document whose text was `before` and lost lines to become `after`, its offsets moved accordingly."""
    if not meta or before == after or not any(f'"{kind}"' in meta for kind in OFFSET_KINDS):
        return meta
    about = json.loads(meta)
    starts, at, kept = [0], 0, 0
    left = after.split("\n")
    new_starts = [0]
    for line in before.split("\n"):
        at += len(line) + 1
        if kept < len(left) and left[kept].strip() == line.strip():
            new_starts.append(min(new_starts[-1] + len(left[kept]) + 1, len(after)))
            kept += 1
        else:
            new_starts.append(new_starts[-1])
        starts.append(at)
    for kind, offsets in _offsets(about, len(before)).items():
        about[kind] = [[new_starts[bisect_right(starts, mark) - 1], label] for mark, label in offsets]
    return json.dumps(about, ensure_ascii=False, sort_keys=True)


def _offsets(meta: dict[str, Any], length: int) -> SectionOffsets:
    """Those in `meta` that are such; a user's own rows may say something else under the same name."""

    def is_offset(entry: Any) -> bool:
        return (
            isinstance(entry, list)
            and len(entry) == 2
            and isinstance(entry[0], int)
            and isinstance(entry[1], str)
            and 0 <= entry[0] <= length
        )

    return {
        kind: meta[kind]
        for kind in OFFSET_KINDS
        if isinstance(meta.get(kind), list) and all(map(is_offset, meta[kind]))
    }
