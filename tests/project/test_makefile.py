"""The Makefile: what `make help` lists, what `make clean` may remove, what `make install` asks for first."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.params import read_yaml
from tests.helpers.checkout import ROOT

PROMISED = {"install", "run", "test", "check", "ui", "chat", "serve", "report", "bench", "clean", "distclean"}
HISTORY = (".textmill/mlflow.db", ".textmill/mlartifacts/0/page.html", ".textmill/prefect/prefect.db")


def make(folder: Path, target: str, *variables: str, path: object = None) -> subprocess.CompletedProcess[str]:
    """`make TARGET` in the folder, all programs found by the environment's PATH unless another is given."""
    command = ["make", "-f", str(ROOT / "Makefile"), target, *variables]
    environment = os.environ | ({"PATH": str(path)} if path else {})
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_help_lists_every_target() -> None:
    listed = set(re.findall(r"^  make ([a-z-]+) ", make(ROOT, "help").stdout, re.MULTILINE))
    assert listed >= PROMISED
    assert listed == set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def bare(folder: Path, *tools: str) -> Path:
    """A folder of a project with empty locks, and beside its files the only folder of programs: bash, make and `tools`."""
    (folder / "bin").mkdir()
    for tool in ("bash", "sh", "make", *tools):
        if found := shutil.which(tool):
            (folder / "bin" / tool).symlink_to(found)
    for lock in ("requirements", "requirements-build", "requirements-torch"):
        (folder / f"{lock}.lock").touch()
    (folder / "infra").mkdir()
    (folder / "infra/dvc_site_cache.pth").touch()
    return folder / "bin"


def program(path: Path, script: str) -> None:
    path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    path.chmod(0o755)


def test_install_says_what_is_missing(tmp_path: Path) -> None:
    programs = bare(tmp_path, "python3.11", "g++")
    done = make(tmp_path, "install", f"PYTHON={sys.executable}", path=programs)
    assert done.returncode != 0
    assert "git is needed" in done.stdout


def test_the_newest_python_that_works_makes_the_environment(tmp_path: Path) -> None:
    programs = bare(tmp_path, "git", "g++")
    program(programs / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")  # pyenv's stand-in
    for python in ("3.11", "3.12"):
        program(programs / f"python{python}", f'test "$2" != venv || {{ echo "made by {python}"; exit 1; }}')
    assert "made by 3.12" in make(tmp_path, "install", path=programs).stdout
    assert "made by 3.11" in make(tmp_path, "install", "PYTHON=python3.11", path=programs).stdout
    for python in ("3.11", "3.12"):
        (programs / f"python{python}").unlink()
    done = make(tmp_path, "install", path=programs)
    assert done.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed, e.g. apt-get install python3" in done.stdout
    (tmp_path / ".venv/bin").mkdir(parents=True)
    program(tmp_path / ".venv/bin/python", 'echo "kept: $*"; exit 1')  # the environment that is there
    assert "kept: -m pip install" in make(tmp_path, "install", path=programs).stdout


@pytest.mark.parametrize(
    ("found", "fits"),
    [
        ("No broken requirements found.", True),
        ("model 1 requires engine, which is not installed.", True),  # on purpose
        ("model 1 requires engine, which is not installed.\nother 2 requires more, which is not installed.", False),
        ("modeller 1 requires engine, which is not installed.", False),
    ],
)
def test_an_environment_whose_packages_do_not_fit_is_not_taken(found: str, fits: bool, tmp_path: Path) -> None:
    programs = bare(tmp_path, "git", "g++", "grep", "tr", "cp", "touch")
    (tmp_path / "requirements-models.lock").write_text("# Made\nmodel==1 \\\n    --hash=sha256:00\n")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    program(
        tmp_path / ".venv/bin/python",
        f"case \"$*\" in *check) echo '{found}';; *sysconfig*) echo {tmp_path};; esac",
    )
    done = make(tmp_path, "install", path=programs)
    assert (done.returncode == 0) == (tmp_path / ".venv/installed").exists() == fits, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("sys.version_info = (3, 14, 0)", "Python 3.11, 3.12 or 3.13 is needed; "),
        ("importlib.util.find_spec = lambda name: None", "lacks venv, e.g. apt-get install {}-venv"),
    ],
)
def test_a_python_that_cannot_make_an_environment_is_told_why(change: str, said: str, tmp_path: Path) -> None:
    programs = bare(tmp_path)
    code = f"import importlib.util, sys; {change}"
    program(programs / "changed", f'exec {sys.executable} -c "{code}\n$2"')
    done = make(tmp_path, "install", "PYTHON=changed", path=programs)
    assert done.returncode != 0
    assert said.format(f"python{sys.version_info[0]}.{sys.version_info[1]}") in done.stderr


def outputs_of_a_run(project: Path) -> None:
    for stage in read_yaml(project / "dvc.yaml")["stages"]:
        for folder in (f"data/{stage}", f"data/.{stage}.partial"):
            (project / folder).mkdir(parents=True)
        (project / "metrics").mkdir(exist_ok=True)
        (project / f"metrics/{stage}.json").touch()
    caches = (".textmill/kernels/lsh/x.nbc", ".textmill/.x.partial", ".dvc/cache/files/md5/00/00", ".dvc/tmp/lock")
    for file in (*HISTORY, *caches, ".dvc/remote/files/md5/11/11"):
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).touch()


def test_clean_removes_what_runs_made(toy: Path) -> None:
    outputs_of_a_run(toy)
    (toy / "data/mine").mkdir()  # put there by hand, unknown to DVC
    before = subprocess.run(["git", "ls-files"], cwd=toy, capture_output=True, text=True, check=True).stdout
    assert make(toy, "clean").returncode == 0
    assert [path.name for path in (toy / "data").iterdir()] == ["mine"]
    assert not any(
        (toy / gone).exists() for gone in (".textmill/kernels", ".textmill/.x.partial", ".dvc/cache", ".dvc/tmp")
    )
    assert all((toy / kept).exists() for kept in HISTORY)
    assert not list((toy / "metrics").glob("*.json"))
    assert (toy / ".dvc/remote/files/md5/11/11").exists()
    assert all((toy / file).exists() for file in before.split())
    outputs_of_a_run(toy)
    (toy / ".git").rename(toy / "away")  # nobody can tell what was tracked
    assert "stays" in make(toy, "clean").stdout
    assert (toy / ".dvc/cache/files/md5/00/00").exists()


@pytest.mark.parametrize(("answer", "goes"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_distclean_asks_before_history_goes(toy: Path, answer: str, goes: bool) -> None:
    outputs_of_a_run(toy)
    command = ["make", "-f", str(ROOT / "Makefile"), "distclean"]
    done = subprocess.run(command, cwd=toy, input=answer, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == goes, done.stderr
    assert (toy / ".textmill").exists() == (toy / "data/words").exists() == (not goes)
    assert make(toy, "distclean", "SURE=yes").returncode == 0
    assert not (toy / ".textmill").exists()


@pytest.mark.slow
def test_clean_keeps_what_dvc_add_tracks(toy: Path) -> None:
    def run(*command: str) -> None:
        subprocess.run(command, cwd=toy, check=True, capture_output=True)

    dvc = (sys.executable, "-m", "dvc")
    notes = toy / "data/notes/a.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("the only copy")
    run(*dvc, "add", "data/notes")
    outputs_of_a_run(toy)
    assert make(toy, "clean").returncode == 0
    assert notes.read_text() == "the only copy"
    # The cache alone holds it when the workspace does not, and also when only an older commit names it.
    run("git", "add", "data/notes.dvc", "data/.gitignore")
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "notes")
    run("git", "rm", "-q", "--cached", "data/notes.dvc")
    shutil.rmtree(notes.parent)
    (toy / "data/notes.dvc").unlink()
    assert "stays" in make(toy, "clean").stdout
    run("git", "checkout", "HEAD", "--", "data/notes.dvc")
    run(*dvc, "checkout", "data/notes.dvc")
    assert notes.read_text() == "the only copy"


def test_the_remote_is_out_of_reach_of_clean_and_analytics_are_off() -> None:
    config = (ROOT / ".dvc/config").read_text()
    assert re.search(r"^\s*analytics = false$", config, re.MULTILINE)
    assert re.search(r"^\s*url = remote$", config, re.MULTILINE)  # .dvc/remote
    assert "/remote" in (ROOT / ".dvc/.gitignore").read_text().split()
