"""What people see of removals, and what their labels become: examples, the sample and its page, labels, precision."""

import json
import random
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pytest

from tasks.clean.scores import labels
from tasks.core.errors import EXIT_USER_ERROR
from tasks.documents import review
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, write_shard
from tasks.scrape.crawler.browser import find_browser
from tests.helpers.cleaning import GOOD, POOR, clean_documents, document, sentence

LOOSE: dict[str, Any] = {"languages": None, "max_top_ngram_ratio": 1.0}

pytestmark = pytest.mark.usefixtures("one_worker")


class Page(HTMLParser):
    """The rows that the articles of a page carry, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "article":
            self.rows.append(json.loads(dict(attrs)["data-row"] or ""))

    def handle_data(self, data: str) -> None:
        self.text += data


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def mixed(count: int) -> list[dict[str, Any]]:
    """Good and poor texts in turn, and as many that are half signs."""
    rng = random.Random(7)
    rows = [document("web", n, sentence(GOOD if n % 2 else POOR, rng)) for n in range(count)]
    return rows + [document("signs", n, sentence(POOR if n % 4 else GOOD, rng) + "<&>" * 50) for n in range(count)]


def test_from_the_sample_by_labels_to_precision_and_classifier(tmp_path: Path) -> None:
    rows = mixed(40)
    clean_documents(tmp_path / "1", rows, review=30, **LOOSE)
    sample = read_lines(tmp_path / "1/out/review/sample.jsonl")
    page = Page((tmp_path / "1/out/review/index.html").read_text("utf-8"))
    assert page.rows == sample
    assert {row["label"] for row in sample} == {None}
    for said in (
        "clean: {quality: {labels: [labels/first.jsonl]}}",
        "dvc.yaml",
        "deps",
        "data/",
        "tasks.clean.scores.labels",
    ):
        assert said in page.text
    # What a person does: label some, and save them where the stage finds them again.
    for row in sample[:-2]:
        row["label"] = "keep" if any(word in row["text"] for word in GOOD) else "remove"
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sample))
    metrics, kept, removed = clean_documents(tmp_path / "2", rows, quality={"labels": ["labels.jsonl"]}, **LOOSE)
    labelled = [row for row in sample if row["label"]]
    right = [row["label"] == "remove" for row in labelled if row["reason"] == "symbol_ratio"]
    assert metrics["review"] == {"symbol_ratio": {"labelled": 28, "precision": round(sum(right) / 28, 4)}}
    assert 0 < sum(right) < 28
    trained = metrics["scores"]["quality"]
    assert trained["positive"] + trained["negative"] == len(labelled) == 58
    assert {row["reason"] for row in removed} == {"symbol_ratio", "quality"}
    assert len(kept) == 20


def test_a_few_of_each_reason_are_always_there(tmp_path: Path) -> None:
    found = []
    for name, workers in (("1", 1), ("2", 2)):
        (tmp_path / "execution.yaml").write_text(f"workers: {workers}\n")
        _, _, removed = clean_documents(tmp_path / name, [*mixed(8), document("x", 1, "short")], **LOOSE)
        found.append((tmp_path / name / "out/examples.json").read_bytes())
    assert found[0] == found[1]
    examples = json.loads(found[0])
    assert {reason: len(some) for reason, some in examples.items()} == {"symbol_ratio": 3, "too_short": 1}
    ids = sorted(row["id"] for row in removed if row["reason"] == "symbol_ratio")
    assert [row["id"] for row in examples["symbol_ratio"]] == ids[:3]
    assert examples["too_short"] == [
        {
            "id": examples["too_short"][0]["id"],
            "source": "x",
            "url": "http://x.org/1",
            "detail": "5 characters < 20",
            "text": "short",
        }
    ]


def test_removals_of_any_stage_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert review.main(["dedup"]) == EXIT_USER_ERROR
    assert "dvc repro" in capsys.readouterr().err
    for stage, reason, column in (("dedup", "near_duplicate", "kept_id"), ("decontaminate", "contaminated", "matched")):
        removed = [
            {"id": f"{n:032x}", "text": f"gone {n}", "source": "s", "reason": reason, column: "0a" if n else "0b#1"}
            for n in range(4)
        ]
        kept = [{"id": "0a", "text": "the one <kept>"}, {"id": "0b", "text": "the one asked about"}]
        write_shard(
            pa.Table.from_pylist(removed, schema=REMOVED_SCHEMA), tmp_path / "data" / stage / "removed/0.parquet"
        )
        write_shard(pa.Table.from_pylist(kept, schema=SCHEMA), tmp_path / "data" / stage / "documents/0.parquet")
    assert review.main(["dedup", "decontaminate", "--per-reason", "2"]) == 0
    sample = read_lines(tmp_path / ".textmill/review/sample.jsonl")
    assert [(row["stage"], row["reason"], row["text"], row["for_text"]) for row in sample] == [
        (stage, reason, text, other)
        for stage, reason in (("dedup", "near_duplicate"), ("decontaminate", "contaminated"))
        for text, other in (("gone 0", "the one asked about"), ("gone 1", "the one <kept>"))
    ]
    page = Page((tmp_path / ".textmill/review/index.html").read_text("utf-8"))
    assert page.rows == sample
    assert page.text.count("the one <kept>") == 2
    # That they are right says nothing of the text: the classifier is not told, the precision is.
    for row, label in zip(sample, ("remove", "keep", "remove", "remove"), strict=True):
        row["label"] = label
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sample))
    assert labels.read_labelled_texts([tmp_path / "labels.jsonl"]) == {"keep": [], "remove": []}
    assert labels.measured_precision([tmp_path / "labels.jsonl"]) == {
        "contaminated": {"labelled": 2, "precision": 1.0},
        "near_duplicate": {"labelled": 2, "precision": 0.5},
    }
    assert labels.main([str(tmp_path / "labels.jsonl")]) == 0
    assert "50.0% of 2 removals" in capsys.readouterr().out
    assert labels.main(["nowhere.jsonl"]) == EXIT_USER_ERROR


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_the_page_labels(tmp_path: Path) -> None:
    """In a browser: what is clicked is what is saved, the texts byte for byte."""
    rows = [
        {"stage": "clean", "id": f"{n}", "reason": "r", "detail": None, "source": "s", "url": None, "label": None}
        | {"text": text, "for_id": None}
        for n, text in enumerate(["\nfirst <b>\"'&amp; </article>", "second é\t\n", "third"])
    ]
    review.write_review(rows, 3, tmp_path)
    page = tmp_path / "index.html"
    click = (
        "<script>for (const [n, label] of [[0, 'keep'], [1, 'keep'], [1, 'remove']])"
        "document.querySelectorAll('article')[n].querySelector(`[value=${label}]`).click();"
        "document.title = lines().map(encodeURIComponent).join(' ')</script>"
    )
    page.write_text(page.read_text("utf-8") + click, "utf-8")
    command = [str(find_browser()), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    title = shown.partition("<title>")[2].partition("</title>")[0]
    saved = [json.loads(unquote(line)) for line in title.split(" ")]
    assert saved == [rows[0] | {"label": "keep"}, rows[1] | {"label": "remove"}]
    assert '<span id="labelled">2</span>' in shown
