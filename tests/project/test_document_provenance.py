"""Where a document came from, when, under which licence and with whose leave stays with it to the last text stage."""

import json
from pathlib import Path

import pytest

from tests.helpers.chain import training_text
from tests.helpers.scraping import files, members, page, record, response, url
from tests.helpers.tiny import conversation


@pytest.mark.slow
def test_provenance_reaches_the_training_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("execution.yaml").write_text("workers: 1\n")
    prose = (
        "People who live near the sea often say that the weather is a matter of taste, and number {} of them agrees."
    )
    texts = [
        record("conversion", url(f"text/{n}"), prose.format(n).encode(), Content_Type="text/plain") for n in range(30)
    ]
    crawled = [response(url(n), page(f"{n} " * 9 + prose.format(n))) for n in range(30)]
    Path("x.warc.gz").write_bytes(members(*crawled, *texts))
    rows = [{"messages": conversation(n, 8)} for n in range(60)]
    Path("a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    archive = {"name": "archive", "kind": "warc", "paths": ["x.warc.gz"], "licence": "CC0", "robots": "obeyed by CCBot"}

    seen = set()
    for row in training_text(tmp_path, [archive, files("a.jsonl")]):
        meta = json.loads(row["meta"])
        seen.add(row["source"])
        if row["source"] == "archive":
            assert row["url"].startswith("https://e.org/")
            assert row["fetched_at"].isoformat() == "2025-03-04T05:06:07+00:00"
            assert (row["licence"], meta["robots"]) == ("CC0", "obeyed by CCBot")
        else:
            assert row["url"].startswith("file:a.jsonl#L")
            assert (row["licence"], row["fetched_at"]) == ("CC0-1.0", None)
    assert seen == {"archive", "mine"}
