"""Publishing a stage is whole: killed before any of its file operations, the old pair or the new pair is what the next start finds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.errors import EXIT_USER_ERROR
from tasks.core.paths import Outputs, write_json
from tasks.core.publish import complete_publishing, publish, require_no_symlinks, staging_folder
from tests.helpers.checkout import ROOT
from tests.helpers.running import flow

OLD, NEW = [{"sub/text": "old", "gone": "old"}, {"is": "old"}], [{"sub/text": "new"}, {"is": "new"}]


@pytest.mark.parametrize(("begun", "before"), [("old", OLD), ("none", [{}, None])])
def test_killed_at_any_change_of_the_file_system_one_pair_is_whole(tmp_path: Path, begun: str, before: object) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tests/helpers/publishing.py", tmp_path / "project", begun],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 10
    switched = found.index(NEW)
    assert found == [before] * switched + [NEW] * (len(found) - switched)


def test_what_cannot_be_put_in_place_leaves_the_old_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data/x").mkdir(parents=True)
    write_json(tmp_path / "metrics/x.json", {"is": "old"})
    outputs, rename = Outputs(staging_folder(tmp_path, "x"), tmp_path / "work"), Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == ".x.partial":
            raise PermissionError(13, "Permission denied", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        publish(tmp_path, "x", outputs, {"is": "new"})
    monkeypatch.undo()
    complete_publishing(tmp_path)
    assert json.loads((tmp_path / "metrics/x.json").read_text()) == {"is": "old"}
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".x.partial", "x"]


@pytest.mark.parametrize("place", ["data", "data/words", "metrics", "metrics/words.json"])
def test_a_link_in_the_place_of_an_output_is_refused_before_the_stage_runs(
    toy: Path, tmp_path: Path, place: str
) -> None:
    elsewhere = tmp_path / "big disk"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    (toy / place).parent.mkdir(exist_ok=True)
    (toy / place).symlink_to(elsewhere)
    done = subprocess.run([sys.executable, "-m", "tasks.words"], cwd=toy, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USER_ERROR
    assert f"{place}: is a symbolic link to {elsewhere}" in done.stderr
    assert "dvc cache dir" in done.stderr
    if place == "data":
        done = flow(toy)
        assert done.returncode == EXIT_USER_ERROR
        assert "data: is a symbolic link" in done.stderr
    assert (toy / place).is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["kept"]
    (toy / place).unlink()
    require_no_symlinks(toy, "words")


def test_a_link_into_the_cache_is_dvcs_own(toy: Path) -> None:
    (toy / "metrics").mkdir()
    (toy / "metrics/words.json").symlink_to("/big/disk/cache/files/md5/7f/7f7ae9c2c4199b08117af53546ecdf")
    require_no_symlinks(toy, "words")


def test_a_link_that_is_made_while_a_stage_runs_costs_nothing(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    for round_ in ("first", "second"):
        outputs = Outputs(staging_folder(tmp_path, "x"), tmp_path / "work")
        (outputs / "made").write_text(round_)
        if round_ == "first":
            (tmp_path / "data/x").symlink_to(elsewhere)
        publish(tmp_path, "x", outputs, {"is": round_})
        assert (tmp_path / "data/x/made").read_text() == round_
        assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["x"]
    assert (elsewhere / "kept").read_text() == "kept"


def test_the_next_stage_completes_what_a_kill_left(toy: Path) -> None:
    """A stage that reads the other, even one that itself stops at a mistake."""
    outputs = Outputs(staging_folder(toy, "words"), toy / "work")
    (outputs / "out.txt").write_text("w")
    write_json(toy / "metrics/.words.json.ready", {"length": 1})
    done = subprocess.run([sys.executable, "-m", "tasks.join"], cwd=toy, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USER_ERROR
    assert (toy / "data/words/out.txt").read_text() == "w"
    assert json.loads((toy / "metrics/words.json").read_text()) == {"length": 1}
    assert [path.name for path in (toy / "metrics").iterdir() if path.name.startswith(".")] == []
