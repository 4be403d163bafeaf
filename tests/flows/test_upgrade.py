"""`make upgrade`: what other code made is kept where nothing else differs, and nowhere else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flows.upgrade import upgrade
from tasks.core.errors import UserError


def dvc(project: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout


def locked(project: Path) -> dict[str, object]:
    stages: dict[str, object] = YAML(typ="safe").load(project / "dvc.lock")["stages"]
    return stages


@pytest.fixture(scope="module")
def of_old(toy_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that ran when its stage `words` was one file."""
    project = Path(shutil.copytree(toy_template, tmp_path_factory.mktemp("of_old") / "toy", symlinks=True))
    declared = (project / "dvc.yaml").read_text()
    (project / "tasks/words_of_old.py").write_text("x = 1\n")
    (project / "dvc.yaml").write_text(declared.replace("- tasks/words", "- tasks/words_of_old.py"))
    dvc(project, "repro")
    return project


@pytest.fixture
def moved(of_old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, whose code has moved into folders since."""
    project = Path(shutil.copytree(of_old, tmp_path / "toy", symlinks=True))
    monkeypatch.chdir(project)  # as the command is started
    (project / "tasks/words_of_old.py").unlink()
    declared = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(declared.replace("- tasks/words_of_old.py", "- tasks/words"))
    return project


def test_what_the_moved_code_made_is_kept(moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = locked(moved)
    assert "words:" in dvc(moved, "status")
    assert upgrade(moved, [], sure=True) == ["words"]
    after = locked(moved)
    assert [stage for stage in before if before[stage] != after[stage]] == ["words"]
    assert before["words"]["outs"] == after["words"]["outs"]  # type: ignore[index]
    assert "up to date" in dvc(moved, "status")
    assert "Kept in dvc.lock: words" in capsys.readouterr().out
    assert upgrade(moved, [], sure=True) == []


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("params.yaml", "text: w", "words: will run: params.yaml: words"),
        ("data/words/out.txt", "w", "words: will run: data/words is modified"),
        ("dvc.yaml", "cmd: python -m tasks.words", "words: will run: its command differs"),
    ],
)
def test_what_else_differs_is_made_anew(
    moved: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, reason: str
) -> None:
    path = moved / file
    changed = path.read_text().replace(text, f"{text}x")
    path.unlink()  # not what DVC's cache has: it may be linked to it
    path.write_text(changed)
    before = (moved / "dvc.lock").read_text()
    assert upgrade(moved, [], sure=True) == []
    assert reason in capsys.readouterr().out
    assert (moved / "dvc.lock").read_text() == before


def test_nobody_is_asked_in_a_script(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (moved / "dvc.lock").read_text()
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115, PTH123
    with pytest.raises(UserError, match="SURE=yes"):
        upgrade(moved, [], sure=False)
    with pytest.raises(UserError, match="no stage named 'word'"):
        upgrade(moved, ["word"], sure=True)
    assert (moved / "dvc.lock").read_text() == before
    assert upgrade(moved, ["left"], sure=True) == []  # is as it was


@pytest.mark.parametrize("answer", ["", "n", EOFError, KeyboardInterrupt])
def test_what_is_no_yes_is_a_no(
    moved: Path, monkeypatch: pytest.MonkeyPatch, answer: str | type[BaseException]
) -> None:
    def answered(question: str) -> str:
        if isinstance(answer, str):
            return answer
        raise answer

    before = (moved / "dvc.lock").read_text()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", answered)
    assert upgrade(moved, [], sure=False) == []
    assert (moved / "dvc.lock").read_text() == before
