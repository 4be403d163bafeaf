"""Files and code that nobody asked for: what cards, states, links and models name elsewhere is neither read nor run."""

import ast
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.formats.compressed import DamagedFile
from tasks.held_out.evaluation_set import chosen_files
from tasks.instruct.record_items import instruction_files
from tasks.scrape.archive_documents import network_limits
from tasks.scrape.files.hub_datasets import HubDataset
from tasks.scrape.files.row_documents import Columns
from tasks.scrape.sources import WarcSource
from tasks.scrape.warc.remote_files import NetworkLimits, expand_paths, open_stream
from tests.helpers.checkout import ROOT
from tests.helpers.scraping import files, rows, scrape
from tests.helpers.site_server import serve

COLUMNS = Columns("text", "messages")
NAMED: list[Any] = [
    "../outside/private.txt",
    "data/../../outside/private.txt",
    "/etc/hostname",
    "~/private.txt",
    "file:///etc/hostname",
    "http://127.0.0.1:9/x.txt",
    "zip://*.txt::file:///etc/archive.zip",
    "hf://datasets/owner/other/x.txt",
    ["a.txt", "../outside/private.txt"],
    [{"split": "train", "path": ["../outside/private.txt"]}],
]


@pytest.mark.parametrize("named", NAMED, ids=str)
@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
def test_a_data_set_names_only_its_own_files(tmp_path: Path, named: Any, card: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "private.txt").write_text("secret\n")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.txt").write_text("public\n")
    configs = json.dumps({"configs": [{"config_name": "default", "data_files": named}]})
    (tmp_path / "set" / card).write_text(f"---\n{configs}\n---\n" if card == "README.md" else configs)
    with pytest.raises(UserError, match="lies outside of the data set"):
        HubDataset(str(tmp_path / "set"), None, "train", None, COLUMNS, 1 << 20)


def test_a_data_set_follows_no_link_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("secret\n")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.txt").symlink_to(tmp_path / "private.txt")
    with pytest.raises(UserError, match="lies outside of the data set"):
        HubDataset(str(tmp_path / "set"), None, "train", None, COLUMNS, 1 << 20)


def test_a_saved_data_set_names_only_its_own_files(tmp_path: Path) -> None:
    import datasets

    for name in ("private", "set"):
        datasets.Dataset.from_dict({"text": [name]}).save_to_disk(str(tmp_path / name))
    assert [
        item.text
        for item in HubDataset(str(tmp_path / "set"), None, "train", None, COLUMNS, 1 << 20).documents(
            tmp_path / "work"
        )
    ] == ["set"]
    state = json.loads((tmp_path / "set" / "state.json").read_text())
    [file] = state["_data_files"]
    file["filename"] = f"../private/{file['filename']}"
    (tmp_path / "set" / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="lies outside of the data set"):
        HubDataset(str(tmp_path / "set"), None, "train", None, COLUMNS, 1 << 20)


def test_links_are_followed_within_the_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("outside", "corpus/deep", ".dvc/cache/files"):
        (tmp_path / folder).mkdir(parents=True)
    for path in ("outside/private.jsonl", "corpus/deep/a.jsonl", ".dvc/cache/files/b.jsonl"):
        (tmp_path / path).write_text(json.dumps({"text": path}) + "\n")
    (tmp_path / "corpus" / "out.jsonl").symlink_to(tmp_path / "outside" / "private.jsonl")
    (tmp_path / "corpus" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "corpus" / "in.jsonl").symlink_to(tmp_path / "corpus" / "deep" / "a.jsonl")
    (tmp_path / "corpus" / "tracked.jsonl").symlink_to(tmp_path / ".dvc" / "cache" / "files" / "b.jsonl")
    kept = {"corpus/deep/a.jsonl", "corpus/in.jsonl", "corpus/tracked.jsonl"}
    with caplog.at_level(logging.WARNING):
        for number, pattern in enumerate(("corpus", "corpus/**/*.jsonl")):
            _, outputs = scrape(tmp_path / str(number), files(pattern))
            assert {row["url"].removeprefix("file:").partition("#")[0] for row in rows(outputs)} == kept
    assert "symbolic links lead out of it" in caplog.text
    names = [
        [str(path) for path in chosen_files(tmp_path, ["corpus"])],
        [str(path) for path in chosen_files(tmp_path, ["corpus/**/*.jsonl"])],
        [str(found.path) for found in instruction_files([("corpus/**/*.jsonl", "auto", "s")])],
        list(expand_paths(("corpus/**/*.jsonl",), "", NetworkLimits(1, 0, 0, 100), "here")),
    ]
    for found in names:
        assert found
        assert not [name for name in found if "out.jsonl" in name or "private" in name]
    _, outputs = scrape(tmp_path / "alone", files("corpus/out.jsonl"))  # the user has named it
    assert len(rows(outputs)) == 1


def test_no_code_of_a_model_is_run_and_nobody_is_asked() -> None:
    """`from_pretrained` says so wherever it stands, itself or by the options given: without it transformers asks on the terminal."""
    silent = []
    for path in (*(ROOT / "tasks").rglob("*.py"), *(ROOT / "flows").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "from_pretrained"
            ):
                continue
            said = {keyword.arg: keyword.value for keyword in node.keywords}
            told = said.get("trust_remote_code")
            if not (None in said or (isinstance(told, ast.Constant) and told.value is False)):
                silent.append(f"{path}:{node.lineno}")
    assert not silent
    assert '"trust_remote_code": False' in (ROOT / "tasks/model/start_from.py").read_text()  # whose options are given
    assert (
        "trust_remote_code=False, **options" in (ROOT / "tasks/model/load.py").read_text()
    )  # which cannot say otherwise


def test_what_a_list_or_a_redirect_leads_to_has_a_public_address() -> None:
    """Of hosts that the user has named any address may be asked, of others a public one, whatever the name looks like."""
    with serve() as site:
        port = site.url.rpartition(":")[2]
        site.pages["/x"] = "an archive"
        site.replies["/moved"] = lambda _: (302, {"Location": f"http://127.0.0.2:{port}/x"}, b"")
        network = NetworkLimits(5, 0, 0, 1 << 20, frozenset({"127.0.0.1"}))
        with open_stream(f"{site.url}/x", network) as stream:
            assert stream.read(100) == b"an archive"
        for host in (
            "127.0.0.2",
            "localhost",
            "127.1",
            "0x7f.1",
            "2130706433",
            "[::ffff:127.0.0.1]",
            "127.0.0.1/moved",
        ):
            url = f"http://{host.partition('/')[0]}:{port}/{host.partition('/')[2] or 'x'}"
            with (
                open_stream(url, network) as stream,
                pytest.raises(DamagedFile, match=r"is no public address|FileNotFound"),
            ):
                stream.read(100)
    source = WarcSource(name="s", paths=("a.paths", "https://Own.example/a.paths"), prefix="http://10.0.0.1:8080/")
    assert network_limits(source).own_hosts == {"own.example", "10.0.0.1"}
