"""JSON files: a list of rows, or one. Every row comes out, as a document or with the reason why it is none."""

import json
from collections.abc import Iterator
from pathlib import Path

from tasks.text.compressed import Damaged, Stream
from tasks.text.encoding import Decoded, decode_file
from tasks.text.json_rows import read_values
from tasks.text.row_files import read_jsonl
from tasks.text.row_items import Columns, Item, lost, row_item


def read_json(path: Path, url: str, columns: Columns, declared: str | None, max_bytes: int) -> Iterator[Item]:
    """The rows of a JSON file, read as a whole: those of a list, or the one object. JSON Lines under this name are
    read as such. Decoded as any text file.

    Raises:
        UserError: the file cannot be opened, or changes meanwhile.
    """
    try:
        with Stream(path) as stream:
            content = stream.read_whole(max_bytes)
    except Damaged as damage:
        yield lost(str(path), url, damage.reason, damage.detail)
        return
    by = decode_file(content, declared) or Decoded(content.decode("utf-8", "replace"), "utf-8", "valid")
    try:
        values = read_values(by.text)
    except (ValueError, RecursionError) as error:
        if _begins_as_lines(by.text):
            yield from read_jsonl(path, url, columns, declared, max_bytes)
        else:
            detail = f"{path}: {error}"[:500]
            yield Item(str(path), url, content, by.text[:2000], reason="broken_json", detail=detail)
        return
    if len(values) > 1 and _begins_as_lines(by.text):
        yield from read_jsonl(path, url, columns, declared, max_bytes)
        return
    rows = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    for number, row in enumerate(rows, 1):
        where, row_url = f"{path}, row {number}", f"{url}#R{number}"
        raw = json.dumps(row, ensure_ascii=False).encode()
        if isinstance(row, dict):
            yield row_item(row, where, row_url, raw, columns, by)
        else:
            detail = f"{where}: {type(row).__name__}, expected an object"
            yield Item(where, row_url, raw, raw.decode(), reason="broken_json", detail=detail)


def _begins_as_lines(text: str) -> bool:
    first, line_end, _ = text.lstrip().partition("\n")
    try:
        return bool(line_end and read_values(first))
    except (ValueError, RecursionError):
        return False
