"""A sample for human eyes: some removed documents of each reason and source, and some kept ones, as a page and as JSONL.

clean draws its own where params.yaml asks for it. This draws from what stages have removed, whatever they are:
`python -m tasks.documents.review dedup decontaminate --per-reason 10`. tasks/clean/scores/labels.py reads what people say of it.
"""

import argparse
import heapq
import html
import json
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.parallel.engine import map_shards
from tasks.core.paths import state_folder
from tasks.documents.shards import read_shard, shard_paths

Row = dict[str, Any]
MAX_CHARACTERS = 2000
EXAMPLES = 3
EXAMPLE_CHARACTERS = 200
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Review</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
pre{{white-space:pre-wrap;background:#f4f4f4;color:#111;padding:.7rem;max-height:20rem;overflow:auto}}small{{color:#666}}
article{{border-top:1px solid #bbb;margin-top:1rem}}
article[data-label=keep] pre{{background:#dfd}}article[data-label=remove] pre{{background:#fdd}}
header{{position:sticky;top:0;background:#fff;color:#111;padding:.3rem 0}}</style>
<h1>Review</h1><p>{count} documents: at most {each} of each reason and source, drawn by id. Say of each whether you would
keep or remove it; leave out what you cannot tell.</p>
<p>Save the labels as a file of the project, such as <code>labels/first.jsonl</code>: what is under <code>data/</code> is
written anew by every run. Name it in params.yaml, <code>clean: {{quality: {{labels: [labels/first.jsonl]}}}}</code>, and in
dvc.yaml among the <code>deps</code> of <code>clean</code>. The next run then trains its classifier on what you said of
clean's documents, and measures how often each reason was right; <code>python -m tasks.clean.scores.labels
labels/first.jsonl</code> tells that at once. Without a browser: write <code>"keep"</code> or <code>"remove"</code> into
<code>label</code> in a copy of sample.jsonl.</p>
<header><button id="save">Save labels</button> <span id="labelled">0</span> labelled</header>
{body}
<script>
const labelled = () => [...document.querySelectorAll("article[data-label]")];
const lines = () => labelled().map(a => JSON.stringify({{...JSON.parse(a.dataset.row), label: a.dataset.label}}) + "\\n");
addEventListener("click", ({{target}}) => {{
  if (target.id === "save") {{
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines()));
    link.download = "labels.jsonl";
    link.click();
  }} else if (target.value) {{
    target.closest("article").dataset.label = target.value;
    document.getElementById("labelled").textContent = labelled().length;
  }}
}});
</script></html>
"""


def sample_documents(stage: str, folders: Sequence[Path], per_reason: int) -> list[Row]:
    """At most `each` documents of every (reason, source) with the smallest ids, which are hashes: a random sample.

    `folders` are those of `stage` to draw from; the reason of documents that it kept is "".
    """
    strata: dict[tuple[str, str], list[Row]] = {}
    paths = [path for folder in folders for path in shard_paths(folder)]
    for rows in map_shards(partial(_smallest, stage=stage, each=per_reason), paths, f"{stage}: sample"):
        for row in rows:
            stratum = row["reason"], row["source"]
            strata[stratum] = heapq.nsmallest(per_reason, [*strata.get(stratum, []), row], _id)
    return [row for _, rows in sorted(strata.items()) for row in rows]


def _id(row: Row) -> str:
    return row["id"] or ""


def _smallest(path: Path, stage: str, each: int) -> list[Row]:
    table = read_shard(path)
    keys = ["id", *(name for name in ("reason", "source") if name in table.column_names)]
    strata: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for place, row in enumerate(table.select(keys).to_pylist()):
        strata.setdefault((row.get("reason") or "", row["source"] or ""), []).append((_id(row), place))
    places = sorted(place for found in strata.values() for _, place in heapq.nsmallest(each, found))
    return [
        {
            "stage": stage,
            "id": row["id"],
            "reason": row.get("reason") or "",
            "detail": row.get("detail"),
            "source": row["source"] or "",
            "url": row["url"],
            "text": (row["text"] or "")[:MAX_CHARACTERS],
            "for_id": row.get("kept_id") or row.get("matched"),
            "label": None,
        }
        for row in table.take(pa.array(places, pa.int64())).to_pylist()
    ]


def removal_examples(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Of each reason the EXAMPLES documents with the smallest ids, texts cut at EXAMPLE_CHARACTERS."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        short = {name: row[name] for name in ("id", "source", "url", "detail")}
        short["text"] = row["text"][:EXAMPLE_CHARACTERS]
        if row.get("for_text"):
            short |= {"for_id": row["for_id"], "for_text": row["for_text"][:EXAMPLE_CHARACTERS]}
        found[row["reason"]] = heapq.nsmallest(EXAMPLES, [*found.get(row["reason"], []), short], _id)
    return found


def add_kept_texts(rows: Sequence[Row], documents: Path) -> None:
    """Where a document went for another's sake, `for_text`: that one's text, if it is in `documents`."""
    wanted = frozenset(row["for_id"].partition("#")[0] for row in rows if row["for_id"])  # #: a question of a document
    texts: dict[str, str] = {}
    for found in map_shards(partial(_texts, wanted=wanted), shard_paths(documents), "texts kept") if wanted else ():
        texts.update(found)
    for row in rows:
        if row["for_id"]:
            row["for_text"] = texts.get(row["for_id"].partition("#")[0])


def _texts(path: Path, wanted: frozenset[str]) -> dict[str, str]:
    ids = read_shard(path, ["id"]).column("id").to_pylist()
    if not (places := [place for place, each in enumerate(ids) if each in wanted]):
        return {}
    texts = read_shard(path, ["text"]).column("text").take(places).to_pylist()
    return {ids[place]: (text or "")[:MAX_CHARACTERS] for place, text in zip(places, texts, strict=True)}


def write_review(rows: Sequence[Row], per_reason: int, folder: Path) -> None:
    """Write sample.jsonl and index.html."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "sample.jsonl").open("w", encoding="utf-8", errors="backslashreplace") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    body = []
    heading = None
    for row in rows:
        if heading != (heading := (row["stage"], row["reason"], row["source"])):
            said = html.escape(f"{row['stage']}: {row['reason'] or 'kept'}")
            body.append(f"<h2>{said} <small>{html.escape(row['source'])}</small></h2>")
        body.append(_article(row))
    page = PAGE.format(count=len(rows), each=per_reason, body="\n".join(body))
    (folder / "index.html").write_text(page, encoding="utf-8", errors="backslashreplace")


def _article(row: Row) -> str:
    about = " · ".join(filter(None, (row["detail"], row["url"], row["id"])))
    other = ""
    if row.get("for_text"):
        other = (
            f"<p><small>It repeats {html.escape(row['for_id'])}</small></p><pre>\n{html.escape(row['for_text'])}</pre>"
        )
    return (
        f'<article data-row="{html.escape(json.dumps(row, ensure_ascii=False))}"><p><small>{html.escape(about)}</small> '
        '<button value="keep">keep</button> <button value="remove">remove</button></p>'
        f"<pre>\n{html.escape(row['text'])}</pre>{other}</article>"
    )


def main(arguments: list[str] | None = None) -> int:
    """Draw a sample of what stages removed, and write its page; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.documents.review", description=main.__doc__)
    parser.add_argument("stages", nargs="+", metavar="STAGE", help="such as clean, dedup, decontaminate")
    parser.add_argument("--per-reason", type=int, default=5, metavar="N", help="of each reason and source (default 5)")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: .textmill/review")
    options = parser.parse_args(arguments)
    each, folder = max(1, options.per_reason), options.to or state_folder(Path.cwd()) / "review"
    rows: list[Row] = []
    try:
        for stage in options.stages:
            data = Path("data", stage)
            # That a document is no duplicate cannot be seen from it alone: of others than clean, what went is enough.
            kept = [data / "documents"] if stage == "clean" else []
            drawn = sample_documents(stage, [data / "removed", *kept], each)
            add_kept_texts(drawn, data / "documents")
            rows += drawn
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    write_review(rows, each, folder)
    print(f"{len(rows)} documents: {folder / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
