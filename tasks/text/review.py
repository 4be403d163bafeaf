"""A sample for human eyes: some removed documents of each reason and source, and some kept ones, as a page and as JSONL.

Who writes `keep` or `remove` into a line's `label` can give the file to clean.quality.labels as examples, and
`measured_precision` says of each reason which share of its labelled removals was right.
"""

import heapq
import html
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tasks.core.errors import UserError
from tasks.text.documents import read_shard, shard_paths

Row = dict[str, Any]
LABELS: tuple[Literal["keep", "remove"], ...] = ("keep", "remove")
MAX_CHARACTERS = 2000
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Review</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
pre{{white-space:pre-wrap;background:#f4f4f4;padding:.7rem;max-height:20rem;overflow:auto}}small{{color:#666}}</style>
<h1>Review</h1><p>{count} documents: at most {each} of each reason and source, drawn by id. Write <code>keep</code> or
<code>remove</code> into <code>label</code> of sample.jsonl.</p>{body}</html>
"""


def draw(root: Path, each: int) -> list[Row]:
    """At most `each` documents of every (reason, source) with the smallest ids, which are hashes; "" is the reason of kept ones."""
    strata: dict[tuple[str, str], list[tuple[int, int, Row]]] = {}
    for number, row in enumerate(_rows(root)):
        heap = strata.setdefault((row["reason"], row["source"]), [])
        item = (-int(row["id"] or "0", 16), -number, row)
        if len(heap) < each:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)
    return [
        row for _, heap in sorted(strata.items()) for _, _, row in sorted(heap, key=lambda item: (-item[0], -item[1]))
    ]


def _rows(root: Path) -> Iterator[Row]:
    for name in ("removed", "documents"):
        for path in shard_paths(root / name):
            for row in read_shard(path).to_pylist():
                yield {
                    "id": row["id"],
                    "reason": row.get("reason") or "",
                    "detail": row.get("detail"),
                    "source": row["source"] or "",
                    "url": row["url"],
                    "text": (row["text"] or "")[:MAX_CHARACTERS],
                    "label": None,
                }


def write(rows: Sequence[Row], each: int, folder: Path) -> None:
    """Write sample.jsonl and index.html."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "sample.jsonl").open("w", encoding="utf-8", errors="backslashreplace") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    body = []
    heading = None
    for row in rows:
        if heading != (heading := (row["reason"], row["source"])):
            body.append(f"<h2>{html.escape(row['reason'] or 'kept')} <small>{html.escape(row['source'])}</small></h2>")
        about = " · ".join(filter(None, (row["detail"], row["url"], row["id"])))
        body.append(f"<p><small>{html.escape(about)}</small></p><pre>{html.escape(row['text'])}</pre>")
    page = PAGE.format(count=len(rows), each=each, body="\n".join(body))
    (folder / "index.html").write_text(page, encoding="utf-8", errors="backslashreplace")


def _labelled(paths: Iterable[Path]) -> Iterator[Row]:
    for path in paths:
        try:
            lines = path.read_text("utf-8").splitlines()
        except OSError as error:
            raise UserError(f"params.yaml: clean.quality.labels: {path}: {error.strerror}") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if row.get("label") is None:
                    continue
                if row["label"] not in LABELS or not isinstance(row["text"], str):
                    raise ValueError("label must be keep or remove, text a string")
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise UserError(f"{path}, line {number}: no labelled text ({error})") from None
            yield row


def read_labels(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Texts by label out of JSONL files; lines whose label is null are passed over.

    Raises:
        UserError: a file is missing, or a line is no JSON object with `text` and such a label.
    """
    texts: dict[str, list[str]] = {label: [] for label in LABELS}
    for row in _labelled(paths):
        texts[row["label"]].append(row["text"])
    return texts


def measured_precision(paths: Iterable[Path]) -> dict[str, dict[str, float]]:
    """For each reason of removal: labelled documents, and the share of them that people would remove as well."""
    found: dict[str, list[bool]] = {}
    for row in _labelled(paths):
        if row.get("reason"):
            found.setdefault(row["reason"], []).append(row["label"] == "remove")
    return {
        reason: {"labelled": len(right), "precision": round(sum(right) / len(right), 4)}
        for reason, right in sorted(found.items())
    }
