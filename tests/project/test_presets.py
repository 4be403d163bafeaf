"""Presets: each is valid, `make preset` writes it into params.yaml line by line, and shows what it takes back."""

import shutil
import subprocess
from pathlib import Path

import pytest

from flows.preset import apply_preset, main, preset_names, preset_values
from tasks.core import graph
from tasks.core.errors import UserError
from tasks.core.params import load_params, read_yaml
from tests.helpers.checkout import ROOT

NAMES = preset_names(ROOT)


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of a checkout that a preset has to do with, committed."""
    (tmp_path / ".dvc").mkdir()
    for name in ("params.yaml", "dvc.yaml", ".dvc/config"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "project")
    return tmp_path


def test_the_presets_that_are_promised_are_there() -> None:
    assert {"default", "text-only", "adapt", "gpu-124m", "gpu-1b", "common-crawl-sample"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_written_and_taken_back(project: Path, name: str) -> None:
    before = (project / "params.yaml").read_text()
    shown = apply_preset(project, name, force=False)
    after = (project / "params.yaml").read_text()
    assert bool(shown) == (after != before)
    assert [line[1:] for line in shown.splitlines() if line.startswith("+ ")] == [
        line for line in after.splitlines() if line not in before.splitlines()
    ]
    loaded = load_params(project, list(graph.load_graph(project)))
    wanted = preset_values(project, name)
    assert {key.partition(".")[0] for key in wanted} == set(loaded)
    assert loaded["pack"].model_dump()["context_length"] == wanted["pack.context_length"]
    assert apply_preset(project, name, force=False) == ""  # nothing is left to change
    apply_preset(project, "default", force=False)  # no edit of the user's: a preset knows every value
    assert read_yaml(project / "params.yaml") == read_yaml(ROOT / "params.yaml")


def test_the_shipped_params_are_the_default(project: Path) -> None:
    assert apply_preset(project, "default", force=False) == ""


def test_edits_that_are_not_committed_are_not_taken_back_unasked(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(edited := path.read_text().replace("threshold: 0.8", "threshold: 0.75"))
    with pytest.raises(UserError, match=r"(?s)-  threshold: 0\.75.*not committed.*FORCE=1"):
        apply_preset(project, "text-only", force=False)
    assert path.read_text() == edited
    assert "-  threshold: 0.75" in apply_preset(project, "text-only", force=True)
    assert "threshold: 0.8" in path.read_text()
    path.write_text(edited)
    git(project, "commit", "-qam", "mine")
    assert apply_preset(project, "text-only", force=False)


def test_mistakes(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(project)
    assert main(["smaller"]) == 2
    assert "There are: " in capsys.readouterr().err
    (project / "presets/mine.yaml").write_text("# Mine.\ndedup: {treshold: 0.9}\n")
    assert main(["mine"]) == 2
    said = capsys.readouterr().err
    assert "presets/mine.yaml: dedup.treshold: unknown key. Did you mean `threshold`?" in said
    assert "\n" not in said.strip()


def test_the_list_has_a_line_for_each(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(len(line) <= 140 and line.endswith(".") for line in lines)
