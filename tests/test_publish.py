"""Publishing a stage is whole: killed before any of its file operations, the old pair or the new pair is what the next start finds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from tasks.core.errors import EXIT_USER_ERROR
from tasks.core.paths import Outputs, write_json
from tasks.core.publish import publish, settle, staging_folder

OLD, NEW = [{"sub/text": "old", "gone": "old"}, {"is": "old"}], [{"sub/text": "new"}, {"is": "new"}]


@pytest.mark.parametrize(("begun", "before"), [("old", OLD), ("none", [{}, None])])
def test_killed_at_any_change_of_the_file_system_one_pair_is_whole(tmp_path: Path, begun: str, before: object) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tests/publishing.py", tmp_path / "project", begun],
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
    settle(tmp_path)
    assert json.loads((tmp_path / "metrics/x.json").read_text()) == {"is": "old"}
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".x.partial", "x"]


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
