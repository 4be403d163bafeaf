"""What params.yaml names and is not there is told before anything runs, in one line, with the exit code of a mistake."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import run_plan
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.params import params_model, validate
from tasks.scrape.stage import ScrapeParams
from tests.helpers.checkout import ROOT


def complaint(stage: str, root: Path, **block: Any) -> str:
    params = validate(params_model(stage), block, stage)
    with pytest.raises(UserError) as raised:
        params.check_paths(root)
    return str(raised.value)


def source(root: Path, **keys: Any) -> str:
    return complaint("scrape", root, sources=[{"name": "mine", **keys}])


@pytest.fixture
def nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose network knows no names."""

    def look_up(host: str, *_: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_files_and_columns_of_sources(tmp_path: Path) -> None:
    assert "paths: 'notes/*.txt' matches no file" in source(tmp_path, kind="files", paths=["notes/*.txt"])
    (tmp_path / "rows.csv").write_text("title,body\na,b\n")
    assert "body" in source(tmp_path, kind="files", paths=["*.csv"])
    pq.write_table(pa.table({"body": ["b"]}), tmp_path / "rows.parquet")
    assert "body" in source(tmp_path, kind="files", paths=["rows.parquet"])
    for paths in (["rows.csv"], ["*.parquet"]):
        keys = {"name": "mine", "kind": "files", "paths": paths, "text_column": "body"}
        validate(ScrapeParams, {"sources": [keys]}, "scrape").check_paths(tmp_path)
    assert "'dumps/*.warc.gz' matches no file" in source(tmp_path, kind="warc", paths=["dumps/*.warc.gz"])
    assert "no such folder" in source(tmp_path, kind="huggingface", dataset="./data/mine")


def test_files_of_instruction_data_may_be_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "chats").mkdir()
    for pattern in ("chats/*.jsonl", str(tmp_path / "chats/*.jsonl")):
        assert f"instruct.files: {pattern}: no such file" in complaint("instruct", tmp_path, files=[{"path": pattern}])
    (tmp_path / "chats/one.jsonl").touch()
    for pattern in ("chats/*.jsonl", str(tmp_path / "chats/*.jsonl"), "chats/one.jsonl"):
        validate(params_model("instruct"), {"files": [{"path": pattern}]}, "instruct").check_paths(tmp_path)


def test_hosts_and_packages_of_sources(tmp_path: Path, nobody_knows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    said = source(tmp_path, kind="web", start=["https://nosuch.example.org/"])
    assert "nosuch.example.org: Name or service not known" in said
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # names are its to know
    validate(
        ScrapeParams, {"sources": [{"name": "mine", "kind": "web", "start": ["https://nosuch.example.org/"]}]}, "scrape"
    ).check_paths(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install chitchat-dataset" in source(tmp_path, kind="package", package="chitchat-dataset")


@pytest.mark.parametrize(
    ("stage", "block", "said"),
    [
        ("instruct", {"files": [{"path": "mine.jsonl", "format": "alpaca"}]}, "instruct.files: mine.jsonl"),
        ("instruct", {"references": ["gsm.jsonl"]}, "instruct.references: gsm.jsonl"),
        ("decontaminate", {"references": ["gsm.jsonl"]}, "decontaminate.references: gsm.jsonl"),
        ("clean", {"bad_words": {"en": "lists/en.txt"}}, "clean.bad_words: lists/en.txt"),
        ("clean", {"quality": {"labels": ["l.jsonl"], "min_score": 0.5}}, "clean.quality.labels: l.jsonl"),
    ],
)
def test_files_of_other_stages(tmp_path: Path, stage: str, block: dict[str, Any], said: str) -> None:
    assert f"params.yaml: {said}: no such file" in complaint(stage, tmp_path, **block)


def test_every_mistake_is_told_and_only_of_stages_that_are_to_run(tmp_path: Path) -> None:
    params = {
        stage: validate(params_model(stage), {"references": [f"{stage}.jsonl"]}, stage)
        for stage in ("instruct", "decontaminate")
    }
    with pytest.raises(UserError) as raised:
        run_plan.check_paths(tmp_path, params, params)
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == [
        "instruct.references",
        "decontaminate.references",
    ]
    run_plan.check_paths(tmp_path, params, [])


def test_the_command_asks_before_it_starts_anything() -> None:
    """The default project with a glob that matches nothing; no server is started for it."""
    sources = "[{name: mine, kind: files, paths: [nothing/*.txt]}]"
    done = subprocess.run(
        [sys.executable, "-m", "flows.pipeline", "--param", f"scrape.sources={sources}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_USER_ERROR
    assert done.stderr.splitlines()[-1].startswith(
        "params.yaml: scrape.sources: mine: paths: 'nothing/*.txt' matches no"
    )
    assert "Prefect" not in done.stdout
