"""Rows of Arrow tables as Python values: one that holds what Python cannot costs that value, not the rest."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

UNCONVERTIBLE = object()
"""Stands for a value that Python cannot hold."""
Row = dict[str, Any]


@dataclass(frozen=True)
class UnreadableRow:
    """A row without a value that it cannot be without: `reason` and `detail`."""

    reason: str
    detail: str


def is_text(kind: pa.DataType) -> bool:
    """Whether it is a type of strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether it is a type of byte strings."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def python_rows(batch: pa.RecordBatch, needed: Collection[str]) -> Iterator[Row | UnreadableRow]:
    """Rows as Python values.

    Parquet checks neither that strings are UTF-8 nor that times fit any calendar, and Python has no value for those: in
    strings U+FFFD stands for what is wrong; without another value in the messages a row is lost, else it only lacks that.
    """
    try:
        yield from batch.to_pylist()
    except Exception:  # whatever pyarrow and the libraries of time zones raise
        for number in range(batch.num_rows):
            yield _python_row(batch.slice(number, 1), needed)


def _python_row(row: pa.RecordBatch, needed: Collection[str]) -> Row | UnreadableRow:
    values: Row = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            values[name] = column[0].as_py()
        except UnicodeDecodeError:
            values[name] = _decoded(column.cast(_bytes_type(column.type))[0].as_py())
        except Exception as error:
            if name in needed:
                return UnreadableRow("unreadable_value", f"{name!r}: {error}")
            values[name] = UNCONVERTIBLE
    return values


def _bytes_type(kind: pa.DataType) -> pa.DataType:
    """The type with bytes in the place of strings."""
    if pa.types.is_dictionary(kind):
        return _bytes_type(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_bytes_type(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_bytes_type(kind.value_type))
    return pa.large_binary() if is_text(kind) else kind


def _decoded(value: Any) -> Any:
    """The value with strings in the place of bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return [_decoded(part) for part in value]
    if isinstance(value, dict):
        return {name: _decoded(part) for name, part in value.items()}
    return value
