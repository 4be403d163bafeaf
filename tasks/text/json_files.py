"""JSON files: a list of rows, or one. Every row comes out, as a document or with the reason why it is none."""

import json
from collections.abc import Iterator
from pathlib import Path

from tasks.text.compressed import Damaged, Stream
from tasks.text.encoding import Decoded, mark
from tasks.text.row_files import read_jsonl
from tasks.text.row_items import Columns, Item, lost, row_item


def read_json(path: Path, url: str, columns: Columns, declared: str | None, max_bytes: int) -> Iterator[Item]:
    """The rows of a JSON file, read as a whole: those of a list, or the one object. JSON Lines under this name are
    read as such. UTF-8 (RFC 8259) unless a byte order mark or `declared` says otherwise.

    Raises:
        UserError: the file cannot be opened, or changes meanwhile.
    """
    try:
        with Stream(path) as stream:
            content = stream.read_whole(max_bytes)
    except Damaged as damage:
        yield lost(str(path), url, damage.reason, damage.detail)
        return
    marked = mark(content)
    by = Decoded("", marked or (declared or "utf-8").lower(), "mark" if marked else "declared" if declared else "valid")
    text = content.decode(by.encoding, "replace").removeprefix("\ufeff")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            yield from read_jsonl(path, url, columns, declared, max_bytes)
        else:
            yield Item(str(path), url, content, text[:2000], reason="broken_json", detail=f"{path}: {error}"[:500])
        return
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        where, row_url = f"{path}, row {number}", f"{url}#R{number}"
        raw = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")  # half a surrogate is no character
        if isinstance(row, dict):
            yield row_item(json.loads(raw), where, row_url, raw, columns, by)
        else:
            detail = f"{where}: {type(row).__name__}, expected an object"
            yield Item(where, row_url, raw, raw.decode(), reason="broken_json", detail=detail)
