"""What lies damaged in DVC's cache or in a folder is found before a stage reads it, and what the message advises mends it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core import graph
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.input_hashes import require_intact
from tests.helpers.checkout import ROOT

DVC = [sys.executable, "-m", "dvc"]
HOW = {
    "flipped": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "cut": lambda content: content[:-1],
    "empty": lambda _: b"",
}


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, toy_template: Path) -> Path:
    """The toy after `dvc repro words`, pushed to a remote inside of it."""
    project = Path(shutil.copytree(toy_template, tmp_path_factory.mktemp("made") / "toy", symlinks=True))
    for command in (["remote", "add", "-q", "-d", "near", "remote"], ["repro", "-q", "words"], ["push", "-q"]):
        assert run(project, *DVC, *command).returncode == 0
    return project


@pytest.fixture
def made(tmp_path: Path, template: Path) -> Path:
    graph.load_graph.cache_clear()
    return Path(shutil.copytree(template, tmp_path / "toy", symlinks=True))


def damage(file: Path, how: str) -> None:
    """Another content under the old time and permissions, as a disk does it."""
    before = file.stat()
    file.chmod(0o644)
    file.write_bytes(HOW[how](file.read_bytes()))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    file.chmod(before.st_mode)


def damage_cache(project: Path, how: str, mode: int = 0o444) -> Path:
    """Damage the object of data/words/out.txt and have DVC put it in place."""
    objects = (project / ".dvc/cache/files/md5").rglob("*")
    found = next(path for path in objects if path.is_file() and path.read_bytes() == b"w")
    damage(found, how)
    found.chmod(mode)
    shutil.rmtree(project / "data/words")
    assert run(project, *DVC, "checkout", "data/words").returncode == 0
    return found


def advice(project: Path) -> str:
    with pytest.raises(UserError, match=r"left: data/words/out\.txt: damaged on the disk") as told:
        require_intact(project, graph.load_stage(project, "left"))
    return str(told.value)


def test_what_is_whole_is_read_without_a_word(made: Path) -> None:
    graph.dependency_hashes(made, "left")
    require_intact(made, graph.load_stage(made, "left"))
    (made / "data/words/out.txt").write_text("changed by its user, and seen by DVC")
    (made / "data/words/more.txt").write_text("more")
    require_intact(made, graph.load_stage(made, "left"))


def test_a_bit_that_turned_in_the_folder(made: Path) -> None:
    graph.dependency_hashes(made, "left")  # a copy of a project is new to DVC
    damage(made / "data/words/out.txt", "flipped")
    told = advice(made)
    assert "rm -f data/words/out.txt\n" in told
    assert "`dvc pull data/words`" in told
    assert "`dvc repro words`" in told


def test_what_nobody_tracks_comes_from_where_the_user_has_it(made: Path) -> None:
    declared = (made / "dvc.yaml").read_text()
    (made / "dvc.yaml").write_text(declared.replace("      - tasks/left", "      - mine.txt\n      - tasks/left"))
    (made / "mine.txt").write_text("mine")
    graph.load_graph.cache_clear()
    graph.dependency_hashes(made, "left")
    damage(made / "mine.txt", "flipped")
    with pytest.raises(UserError, match=r"mine\.txt: damaged.*\n.*\n.*git checkout mine\.txt"):
        require_intact(made, graph.load_stage(made, "left"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "mode", "remote"),
    [("flipped", 0o444, True), ("cut", 0o444, False), ("empty", 0o444, True), ("flipped", 0o644, False)],
)
def test_following_the_advice_mends_it(made: Path, how: str, mode: int, remote: bool) -> None:
    damaged = damage_cache(made, how, mode)
    stopped = run(made, *DVC, "repro", "--single-item", "left")
    assert f"exited with {EXIT_USER_ERROR}" in stopped.stdout + stopped.stderr
    assert not (made / "data/left").exists()
    told = advice(made)
    remove = re.search(r"^  (rm -f .*)$", told, re.MULTILINE)
    again = re.findall(r"`(dvc [^`]*)`", told)
    assert remove is not None
    assert str(damaged.relative_to(made)) in remove[1]
    assert subprocess.run(["sh", "-c", remove[1]], cwd=made, check=False).returncode == 0
    if not remote:
        shutil.rmtree(made / "remote")
    assert (run(made, *again[0].split()).returncode == 0) == remote
    if not remote:
        assert run(made, *again[1].split()).returncode == 0
    assert damaged.read_bytes() == b"w"
    assert run(made, *DVC, "repro", "left").returncode == 0
    assert (made / "data/left/out.txt").read_text() == "wl"


@pytest.mark.slow
def test_a_list_of_files_that_is_cut_is_made_anew(made: Path) -> None:
    """The object that lists the files of a folder: DVC reads it whenever it puts the folder in place, and says so."""
    listing = next(path for path in (made / ".dvc/cache/files/md5").rglob("*.dir"))
    damage(listing, "cut")
    shutil.rmtree(made / "data/words")
    shutil.rmtree(made / ".dvc/tmp")
    assert run(made, *DVC, "repro", "left").returncode == 0
    assert (made / "data/left/out.txt").read_text() == "wl"


def test_every_stage_looks_before_it_reads() -> None:
    frame = (ROOT / "tasks/core/stage_main.py").read_text()
    assert frame.index("require_intact(root, node)") < frame.index("metrics = run(params")
