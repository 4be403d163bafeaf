"""What differs between two committed versions of a corpus, and why: `flows.corpus_versions` and `flows.diff`."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows import diff
from flows.corpus_versions import WORKSPACE, by_reason, compare_versions, read_version
from tasks.core.errors import EXIT_USER_ERROR
from tasks.core.params import validate
from tasks.core.paths import Inputs, Outputs, write_json
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, read_documents, write_documents, write_shard
from tasks.pack.stage import PackParams, run
from tests.helpers.packing import prose
from tests.helpers.tiny import tiny_tokenizer


def write_version(
    root: Path, tokenizer: Path, removed: dict[str, list[dict[str, Any]]], mixture: dict[str, Any]
) -> None:
    """Fill `data` as the stages would: `removed` by stage, and what pack makes of the other documents."""
    shutil.rmtree(root / "data", ignore_errors=True)
    for stage in ("scrape", "clean", "dedup", "decontaminate"):
        rows = removed.get(stage, [])
        write_shard(pa.Table.from_pylist(rows, schema=REMOVED_SCHEMA), root / f"data/{stage}/removed/0.parquet")
    gone = {row["id"] for stage in ("clean", "dedup", "decontaminate") for row in removed.get(stage, [])}
    rows = [
        {"id": f"{source}-{n}", "source": source, "text": text, "split": split}
        for source, split, count in (("web", "train", 60), ("books", "train", 6), ("books", "validation", 2))
        for n, text in enumerate(prose(len(source) + len(split), count), 100 * (split == "validation"))
    ]
    kept = [row for row in rows if row["id"] not in gone]
    documents = root / "data/decontaminate/documents"
    write_documents(kept, documents, schema=SCHEMA.append(pa.field("split", pa.string())))
    outputs = Outputs(root / "data/pack", root / "work")
    for folder in (outputs.root, outputs.work):
        folder.mkdir(parents=True, exist_ok=True)
    params = validate(PackParams, {"context_length": 64, "mixture": mixture}, "params.yaml: pack")
    metrics = run(params, Inputs({"documents": documents, "tokenizer": tokenizer}), outputs)
    write_json(root / "metrics/pack.json", metrics)


def commit(root: Path, name: str) -> None:
    for command in (
        [sys.executable, "-m", "dvc", "add", "-q", "data", "metrics/pack.json"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", name],
    ):
        subprocess.run(command, cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits: in the second a document that the crawl had met twice fails clean, and a mixture leaves some out."""
    root, tokenizer = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(tokenizer)
    (root / ".gitignore").write_text("work\n")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    twice = {"id": "web-3", "source": "web", "reason": "repeated", "kept_id": "web-3"}
    write_version(root, tokenizer, {"scrape": [twice]}, {})
    commit(root, "first")
    removed = {"scrape": [twice], "clean": [{"id": "web-3", "source": "web", "reason": "language"}]}
    write_version(root, tokenizer, removed, {"weights": {"web": 1, "books": 1}, "max_epochs": 2})
    commit(root, "second")
    return root


def test_the_reasons_are_those_of_what_removed_the_documents(project: Path) -> None:
    before, after = read_version(project, "HEAD~1"), read_version(project, "HEAD")
    difference = compare_versions(before, after)
    reasons = {row["id"]: row["reason"] for row in difference.left.to_pylist()}
    assert reasons.pop("web-3") == "clean: language"
    left_out = set(read_documents(project / "data/pack/removed", ["id"])["id"].to_pylist())
    assert reasons == dict.fromkeys(left_out, "pack: mixture_left_out")
    assert len(left_out) > 20
    assert not len(difference.joined)
    assert difference.metrics["pack/removed/mixture_left_out"] == (None, len(left_out))
    assert {row[:3] for row in by_reason(difference.left)} == {
        ("clean: language", "web", 1),
        ("pack: mixture_left_out", "web", len(left_out)),
    }
    documents, again, tokens, tokens_again = difference.sources["books"]  # each training document twice
    assert (documents, again) == (8, 8)
    held_out = after.metrics["pack/validation/tokens"]
    assert tokens_again - held_out == 2 * (tokens - held_out)
    back = compare_versions(after, before)
    assert back.joined.to_pylist() == difference.left.to_pylist()


def test_the_workspace_is_a_version_as_well(project: Path) -> None:
    difference = compare_versions(read_version(project, "HEAD"), read_version(project, WORKSPACE))
    assert not difference.metrics
    assert not len(difference.left)
    assert not len(difference.joined)


def test_the_command_tells_both(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert diff.main(["HEAD~1", "HEAD", "--html", "diff.html"]) == 0
    said = capsys.readouterr().out
    assert "pack: mixture_left_out" in said
    assert "clean: language" in said
    assert "repeated" not in said
    assert "not in the sources" not in said
    assert "pack: mixture_left_out" in Path("diff.html").read_text()


@pytest.mark.parametrize("rev", ["HEAD~1", "HEAD", WORKSPACE])
def test_a_clone_without_the_cache_is_told_so_in_one_line(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rev: str
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    monkeypatch.chdir(clone)
    assert diff.main([rev]) == EXIT_USER_ERROR
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "dvc pull" in said[0]
