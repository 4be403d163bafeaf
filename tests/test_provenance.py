"""Where a document came from, when, under which licence and with whose leave stays with it to the last text stage."""

import json
from pathlib import Path
from typing import Any

import pytest
from scraping import files, members, page, record, response, url
from tiny import conversation

from tasks import clean, decontaminate, dedup, instruct, scrape
from tasks.core.params import validate
from tasks.core.paths import Inputs, Outputs
from tasks.text.documents import read_documents


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

    def stage(module: Any, inputs: dict[str, Path], **params: Any) -> Path:
        name = module.__name__.rpartition(".")[2]
        outputs = Outputs(tmp_path / name, tmp_path / f"{name}.work")
        for path in (outputs.root, outputs.work):
            path.mkdir()
        model = next(m for m in vars(module).values() if getattr(m, "__name__", "").lower() == f"{name}params")
        module.run(validate(model, params, name), Inputs(inputs), outputs)
        return outputs.root

    scraped = stage(scrape, {}, sources=[archive, files("a.jsonl")])
    cleaned = stage(clean, {"scrape": scraped})
    kept = stage(dedup, {"documents": cleaned / "documents"}, threshold=1.0)
    taught = stage(instruct, {"documents": kept / "documents"}, validation_fraction=0.3)
    inputs = {"documents": kept / "documents", "held_out": taught / "held_out", "split": taught / "split"}
    final = stage(decontaminate, inputs, max_overlap=1.0)
    seen = set()
    for row in read_documents(final / "documents").to_pylist():
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
