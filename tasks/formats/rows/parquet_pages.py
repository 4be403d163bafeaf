"""What decoding a row group of a Parquet file takes, told by the headers of its pages: before anything is decoded, since
sizes in the footer bind nobody, and a few bytes can stand for gigabytes.

Page headers are Thrift structs in the compact protocol (parquet-format: parquet.thrift; Thrift: thrift-compact-protocol.md).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from tasks.formats.compressed import FREE_BYTES, MAX_RATIO

DICTIONARY_PAGE = 2
PLAIN, INDEXED, DELTA_BYTE_ARRAY = 0, (2, 8), 7
"""Encodings of values; those indexed name entries of the dictionary's page."""
HEADER_BYTES = 1 << 20
BATCH_ROWS = 1000
BATCH_BYTES = 64 << 20
LEAST_VALUE_BYTES = 8
MAX_DEPTH, MAX_LEVELS = 20, 2000
PADDING_BYTES = (
    100  # beyond a chunk's stated size: parquet-mr before 1.2.9 left the dictionary's header out (PARQUET-816)
)


class UnsafeParquet(Exception):
    """A row group that must not be decoded: `reason` (too_large, decompression_bomb, corrupt_file) and `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class PageHeader(NamedTuple):
    """A page's bytes when decompressed, values, and encoding (of a dictionary's page None)."""

    size: int
    values: int
    encoding: int | None


class DecodePlan(NamedTuple):
    """How to decode a row group: `rows` at a time, strings as dictionaries or, where its encodings forbid it, not."""

    rows: int
    dictionaries: bool


@dataclass
class ColumnChunk:
    """A column chunk, by its pages.

    Attributes:
        compressed, size: bytes on disk, and decompressed.
        dictionary: bytes of its dictionary's page; `indexed`: how many values only name one of that.
        densest: bytes that a value takes at most, on the average of a page, apart from those.
        repeated: one row may hold all of its values; `in_all`: bytes that they take then, apart from those indexed.
        plain: none of its strings is encoded in a way that pyarrow cannot read as a dictionary.
    """

    compressed: int
    repeated: bool
    size: int = 0
    dictionary: int = 0
    indexed: int = 0
    densest: float = LEAST_VALUE_BYTES
    in_all: int = 0
    plain: bool = True

    def value_bytes(self, dictionaries: bool) -> float:
        """Of one value, at most."""
        return self.densest if dictionaries or not self.indexed else max(self.densest, self.dictionary)

    def row_bytes(self, dictionaries: bool) -> int:
        """Of a row that holds all values."""
        return 0 if not self.repeated else self.in_all if dictionaries else self.in_all + self.indexed * self.dictionary


def plan_row_group(file: IO[bytes], metadata: Any, group: int, max_bytes: int) -> DecodePlan:
    """How to decode a row group, so that a batch takes about BATCH_BYTES beside two pages a column.

    `metadata`: the file's (pyarrow).

    Raises:
        UnsafeParquet: a page is larger than `max_bytes` and FREE_BYTES, all swells by more than MAX_RATIO, or a header cannot be read.
    """
    about = metadata.row_group(group)
    columns = [
        _column(file, about.column(number), metadata.schema.column(number), max_bytes)
        for number in range(about.num_columns)
    ]
    dictionaries = all(column.plain for column in columns)
    most = max(FREE_BYTES, MAX_RATIO * sum(column.compressed for column in columns))
    for what, size in (
        ("pages", sum(column.size for column in columns)),
        ("lists", sum(column.row_bytes(dictionaries) for column in columns)),
    ):
        if size > most:
            raise UnsafeParquet("decompression_bomb", f"{what} of {size} bytes, where {most} are allowed")
    row = max(1.0, sum(column.value_bytes(dictionaries) for column in columns))
    return DecodePlan(max(1, min(BATCH_ROWS, int(BATCH_BYTES / row))), dictionaries)


def _column(file: IO[bytes], about: Any, schema: Any, max_bytes: int) -> ColumnChunk:
    start, end = _span(about)
    column = ColumnChunk(about.total_compressed_size, schema.max_repetition_level > 0)
    fixed = schema.length if schema.physical_type == "FIXED_LEN_BYTE_ARRAY" else LEAST_VALUE_BYTES
    left = about.num_values
    for page in _pages(file, start, end):
        if page.size > max(max_bytes, FREE_BYTES):
            raise UnsafeParquet(
                "too_large", f"{about.path_in_schema}: a page of {page.size} bytes, more than {max_bytes}"
            )
        column.size += page.size
        if page.encoding is None:
            column.dictionary = max(column.dictionary, page.size)
            continue
        if page.encoding in INDEXED:
            column.indexed += page.values
        column.plain = column.plain and (schema.physical_type != "BYTE_ARRAY" or page.encoding in (PLAIN, *INDEXED))
        # What is delta encoded may repeat all that came before it in the page.
        swelling = page.encoding == DELTA_BYTE_ARRAY
        column.densest = max(column.densest, fixed, page.size if swelling else page.size / max(1, page.values))
        column.in_all += page.values * (fixed + page.size * swelling)
        left -= page.values
        if left <= 0:
            break
    return column


def row_group_spans(group: Any) -> list[tuple[int, int]]:
    """What `plan_row_group` and pyarrow read of a row group's columns: the first byte, and the one behind the last."""
    found = [_span(group.column(number)) for number in range(group.num_columns)]
    return [(start, end + PADDING_BYTES + HEADER_BYTES) for start, end in found]


def _span(about: Any) -> tuple[int, int]:
    starts = [about.data_page_offset, about.dictionary_page_offset if about.has_dictionary_page else None]
    start = min((start for start in starts if start), default=0)
    return start, start + about.total_compressed_size


def _pages(file: IO[bytes], at: int, end: int) -> Iterator[PageHeader]:
    while at < end + PADDING_BYTES:
        file.seek(at)
        head = file.read(256)
        try:
            fields, size = _Thrift(head).read()
        except IndexError:
            file.seek(at)
            fields, size = _read_long(file.read(HEADER_BYTES))
        data, data_v2, dictionary = (_numbers(fields.get(number)) for number in (5, 8, 7))
        compressed, uncompressed = fields.get(3), fields.get(2)
        if not (isinstance(compressed, int) and isinstance(uncompressed, int) and min(compressed, uncompressed) >= 0):
            raise UnsafeParquet("corrupt_file", "a page without a size")
        if fields.get(1) == DICTIONARY_PAGE:
            yield PageHeader(uncompressed, dictionary.get(1, 0), None)
        elif data or data_v2:
            yield PageHeader(uncompressed, (data or data_v2).get(1, 0), data.get(2, 0) if data else data_v2.get(4, 0))
        at += size + compressed


def _numbers(field: Any) -> dict[int, int]:
    """The numbers of a struct; where there is none, or it is none, nothing."""
    return {key: value for key, value in field.items() if isinstance(value, int)} if isinstance(field, dict) else {}


def _read_long(head: bytes) -> tuple[dict[int, Any], int]:
    try:
        return _Thrift(head).read()
    except IndexError:
        raise UnsafeParquet("corrupt_file", "a page's header does not end") from None


def check_schema(file: IO[bytes]) -> None:
    """Check that the schema in the footer is not nested deeper than MAX_LEVELS: pyarrow walks it on the stack.

    Raises:
        UnsafeParquet: it is, or there is no footer.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 8))
    size = int.from_bytes(file.read(4), "little")
    if end < 12 or size > end - 8:
        raise UnsafeParquet("corrupt_file", "no footer")
    file.seek(end - 8 - size)
    try:
        children = list(_Thrift(file.read(size)).children())
    except IndexError:
        raise UnsafeParquet("corrupt_file", "the footer does not end") from None
    open_groups: list[int] = []  # children still to come, of each group that the next element lies in
    for count in children:
        while open_groups and not open_groups[-1]:
            open_groups.pop()
        if open_groups:
            open_groups[-1] -= 1
        if count:
            open_groups.append(count)
        if len(open_groups) > MAX_LEVELS:
            raise UnsafeParquet("corrupt_file", f"columns nested more than {MAX_LEVELS} levels deep")


class _Thrift:
    """A struct in the compact protocol: numbers and structs by field, all else passed over.

    IndexError where the bytes end before it.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self) -> tuple[dict[int, Any], int]:
        """The fields of the struct at the start, and the bytes that it takes."""
        return self._struct(0), self._at

    def children(self) -> Iterator[int]:
        """Of a footer (FileMetaData): how many children each element of the schema has."""
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            if number != 2 or head & 15 != 9:
                self._value(head & 15, 0)
                continue
            for _ in range(self._size(self._byte())):
                yield _numbers(self._struct(0)).get(5, 0)
            return

    def _size(self, head: int) -> int:
        return head >> 4 if head >> 4 < 15 else self._varint()

    def _struct(self, depth: int) -> dict[int, Any]:
        if depth > MAX_DEPTH:
            raise UnsafeParquet("corrupt_file", "a page's header is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2:
                return kind == 1
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._zigzag()
            case 7:
                return self._skip(8)
            case 8:
                return self._skip(self._varint())
            case 9 | 10:
                head = self._byte()
                for _ in range(self._size(head)):
                    self._value(3 if head & 15 in (1, 2) else head & 15, depth + 1)
                return None
            case 12:
                return self._struct(depth + 1)
        raise UnsafeParquet("corrupt_file", "a page's header cannot be read")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _skip(self, size: int) -> None:
        self._at += size
        if self._at > len(self._data):
            raise IndexError

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128 or shift > 63:
                return value

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
