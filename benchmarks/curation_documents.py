"""The documents of `benchmarks.curation`: docstrings of the installed packages, and planted pairs of known similarity."""

import ast
import json
import random
import shutil
import sysconfig
import warnings
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pyarrow as pa

from tasks.documents.shards import read_shard, write_documents, write_shard

PAIRS = 2000
"""Planted pairs: some above and some below the threshold."""
THRESHOLD = 0.8
PAGES_A_FILE = 100
"""Web pages in an archive."""


def make(folder: Path, megabytes: int) -> Path:
    """Write documents/ (Parquet), documents.jsonl (the texts folded: lower case, single spaces) and truth.json.

    What is there already is kept. Returns the folder.
    """
    done = folder / "truth.json"
    if done.exists() and json.loads(done.read_text())["megabytes"] == megabytes:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rows, truth = [], {}
    size = 0
    for name, text in _docstrings(Path(sysconfig.get_path("purelib"))):
        rows.append({"id": name, "text": text, "source": "docstrings"})
        size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    with (folder / "documents.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({"text": " ".join(row["text"].lower().split())}) + "\n")
    for pair, (one, two, similar) in enumerate(_pairs(random.Random(0))):
        truth[f"planted{pair:04d}"] = similar
        rows += [
            {"id": f"planted{pair:04d}{end}", "text": t, "source": "planted"} for end, t in (("a", one), ("b", two))
        ]
    random.Random(1).shuffle(rows)
    write_documents(iter(rows), folder / "documents")
    done.write_text(json.dumps({"megabytes": megabytes, "pairs": truth}))
    return folder


def make_tokenizer(folder: Path) -> None:
    """Write tokenizer/tokenizer.json: byte-level BPE with 8,192 tokens, trained on the first 8 MB of documents.jsonl."""
    from tasks.tokenizer.trainers import train_tokenizer

    target = folder / "tokenizer/tokenizer.json"
    if target.exists():
        return
    with (folder / "documents.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file.readlines(8_000_000)]
    size = sum(len(text.encode()) for text in texts)
    target.parent.mkdir(exist_ok=True)
    train_tokenizer("bpe", 8192, 2, iter(texts), size, "vocabulary").save(str(target))


def make_pages(folder: Path, megabytes: int) -> None:
    """Write pages/web/docs/*.warc.gz and pages.jsonl: the texts as web pages with navigation, headings, lists, code, footer."""
    from tasks.scrape.warc.warc_writer import response_record

    done = folder / "pages.json"
    if done.exists() and json.loads(done.read_text()) == {"megabytes": megabytes}:
        return
    shutil.rmtree(folder / "pages", ignore_errors=True)
    (folder / "pages/web/docs").mkdir(parents=True)
    texts = _docstrings(Path(sysconfig.get_path("purelib")))
    size = number = 0
    records: list[bytes] = []
    with (folder / "pages.jsonl").open("w", encoding="utf-8") as file:
        for name, text in texts:
            page = _page(name, text)
            body, url = page.encode(), f"http://docs.example.org/{name}"
            file.write(json.dumps({"id": url, "text": page}) + "\n")
            html = [("Content-Type", "text/html; charset=utf-8")]
            records.append(response_record(url, "2026-01-01T00:00:00Z", 200, "HTTP/1.1", html, body))
            size += len(body)
            if len(records) == PAGES_A_FILE or size >= megabytes * 1e6:
                (folder / f"pages/web/docs/{number:05d}.warc.gz").write_bytes(b"".join(records))
                number, records = number + 1, []
            if size >= megabytes * 1e6:
                break
    done.write_text(json.dumps({"megabytes": megabytes}))


def _page(name: str, text: str) -> str:
    links = "".join(f'<li><a href="/{k}">{word}</a></li>' for k, word in enumerate(name.replace("/", " ").split() * 8))
    blocks = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if not block.strip():
            continue
        if all(line.startswith("    ") for line in lines):
            blocks.append(f"<pre><code>{escape(block)}</code></pre>")
        elif all(line.lstrip().startswith(("-", "*", ":")) for line in lines):
            blocks.append("<ul>" + "".join(f"<li>{escape(line.strip())}</li>" for line in lines) + "</ul>")
        elif len(lines) == 1 and len(block) < 40:
            blocks.append(f"<h2>{escape(block)}</h2>")
        else:
            blocks.append(f"<p>{escape(block)}</p>")
    return (
        f"<!doctype html><html><head><title>{escape(name)}</title><style>p{{margin:1em}}</style></head><body>"
        f"<header><h1>{escape(name)}</h1></header><nav><ul>{links}</ul></nav><main><article>{''.join(blocks)}"
        "</article></main><aside><h3>See also</h3><p>Related pages and news.</p></aside>"
        "<footer><p>Copyright. <a href='/terms'>Terms of use</a>, <a href='/privacy'>privacy</a>.</p></footer></body></html>"
    )


def enlarge(folder: Path, copies: int) -> Path:
    """FOLDER/<copies> with documents/ of so many times the text: the letters are shifted, so that no two copies are alike."""
    from string import ascii_lowercase as low
    from string import ascii_uppercase as up

    large, source = folder / str(copies), sorted((folder / "documents").glob("*.parquet"))
    if len(list((large / "documents").glob("*.parquet"))) == copies * len(source):
        return large
    for path in source:
        table = read_shard(path)
        for copy in range(copies):
            shifted = str.maketrans(low + up, low[copy:] + low[:copy] + up[copy:] + up[:copy])
            texts = pa.array([text.translate(shifted) for text in table.column("text").to_pylist()])
            ids = pa.array([f"{copy}-{name}" for name in table.column("id").to_pylist()])
            one = table.set_column(table.column_names.index("text"), "text", texts)
            one = one.set_column(table.column_names.index("id"), "id", ids)
            write_shard(one, large / "documents" / f"{copy}-{path.name}")
    return large


def _docstrings(root: Path) -> Iterator[tuple[str, str]]:
    """Each module's docstrings as one document, where they are a page of text or more."""
    for path in sorted(root.rglob("*.py")):
        source = path.read_bytes()
        if b'"""' not in source:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        parts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
        text = "\n\n".join(part for part in parts if part)
        text = text.encode("utf-8", "replace").decode()
        if len(text) >= 500:
            yield str(path.relative_to(root)), text


def _pairs(rng: random.Random) -> Iterator[tuple[str, str, bool]]:
    """Pairs of texts and whether the Jaccard similarity of their word 5-grams is THRESHOLD or more."""
    made = 0
    while made < PAIRS:
        base = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(300)]
        copy = list(base)
        for at in rng.sample(range(len(copy)), k=int(len(copy) * rng.choice([0.005, 0.01, 0.02, 0.03, 0.06, 0.2]))):
            copy[at] = f"changed{at}"
        sets = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (base, copy)]
        yield " ".join(base), " ".join(copy), len(sets[0] & sets[1]) / len(sets[0] | sets[1]) >= THRESHOLD
        made += 1


def recall_and_precision(folder: Path, kept: list[str], copies: int) -> dict[str, float]:
    """Of the planted pairs at or above the threshold, how many lost a document; of those that lost one, how many are."""
    truth = json.loads((folder / "truth.json").read_text())["pairs"]
    if copies > 1:
        truth = {f"{copy}-{pair}": similar for pair, similar in truth.items() for copy in range(copies)}
    left = set(kept)
    found = {pair for pair in truth if not {f"{pair}a", f"{pair}b"} <= left}
    right = sum(truth[pair] for pair in found)
    return {"recall": right / sum(truth.values()), "precision": right / max(1, len(found))}
