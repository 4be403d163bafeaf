"""JSON files: a list of rows, or one. Every row comes out, as a document or with the reason why it is none."""

import json
from collections.abc import Iterator
from pathlib import Path

from tasks.formats.compressed import DamagedFile, FileStream
from tasks.formats.encodings.decode import DecodedText, decode_file
from tasks.formats.rows.json_rows import parse_json_values
from tasks.scrape.files.line_files import Line, read_jsonl, text_lines
from tasks.scrape.files.row_documents import Columns, ScrapedDocument, row_to_document, unreadable_document


def read_json(
    path: Path, url: str, columns: Columns, declared: str | None, max_bytes: int
) -> Iterator[ScrapedDocument]:
    """The rows of a JSON file, read as a whole: those of a list, or the one object. JSON Lines under this name are
    read as such. Decoded as any text file.

    Raises:
        UserError: the file cannot be opened, or changes meanwhile.
    """
    if _first_line_is_a_row(path, declared, max_bytes):
        yield from read_jsonl(path, url, columns, declared, max_bytes)
        return
    try:
        with FileStream(path) as stream:
            content = stream.read_whole(max_bytes)
    except DamagedFile as damage:
        yield unreadable_document(str(path), url, damage.reason, damage.detail)
        return
    by = decode_file(content, declared) or DecodedText(content.decode("utf-8", "replace"), "utf-8", "valid")
    try:
        values = parse_json_values(by.text)
    except (ValueError, RecursionError) as error:
        detail = f"{path}: {error}"[:500]
        yield ScrapedDocument(str(path), url, content, by.text[:2000], reason="broken_json", detail=detail)
        return
    rows = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    for number, row in enumerate(rows, 1):
        where, row_url = f"{path}, row {number}", f"{url}#R{number}"
        raw = json.dumps(row, ensure_ascii=False).encode()
        if isinstance(row, dict):
            yield row_to_document(row, where, row_url, raw, columns, by)
        else:
            detail = f"{where}: {type(row).__name__}, expected an object"
            yield ScrapedDocument(where, row_url, raw, raw.decode(), reason="broken_json", detail=detail)


def _first_line_is_a_row(path: Path, declared: str | None, max_bytes: int) -> bool:
    """Whether it is a JSON value of its own, and more follows: then the lines are rows, of which there may be many."""
    found = text_lines(path, "", declared, max_bytes)
    first, more = next(found, None), next(found, None)
    if not isinstance(first, Line) or more is None:
        return False
    try:
        return bool(parse_json_values(first.decoder.decode(first.raw).text))
    except (ValueError, RecursionError):
        return False
