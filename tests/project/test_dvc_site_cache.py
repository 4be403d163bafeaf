"""What DVC remembers of files (in pickles: whoever may write there runs code here) lies in the checkout, for its owner alone to write."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT

START = """
import os, site, sys
os.environ.pop("DVC_SITE_CACHE_DIR", None)  # which the environment that the tests run in has put there
os.environ.update({given!r})
sys.prefix = {venv!r}
site.addsitedir({folder!r})
"""
"""As an interpreter of the checkout's environment starts, with what `make install` has put there."""


def start(checkout: Path, then: str, folder: Path | None = None, **variables: str) -> str:
    code = START.format(given=variables, venv=str(checkout / ".venv"), folder=str(ROOT / "infra")) + then
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder or checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


SAY = "print(os.environ.get('DVC_SITE_CACHE_DIR'))"
DVC = "from dvc.cli import main; sys.exit(main({!r}))"


def test_it_lies_in_the_checkout_and_nobody_else_may_write_there(toy: Path) -> None:
    start(toy, DVC.format(["data", "status", "-q"]))
    start(toy, DVC.format(["data", "status", "-q"]), toy / "tasks")
    site = toy / ".textmill/dvc"
    assert list(site.glob("repo/*/*"))
    assert not [path for path in (site, *site.rglob("*")) if path.stat().st_mode & stat.S_IWOTH]
    assert stat.S_IMODE((site / "repo").stat().st_mode) == 0o700
    assert not (toy / "tasks/.textmill").exists()
    ignored = ["git", "check-ignore", "-q", ".textmill/dvc"]
    assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0


def test_another_place_that_was_named_stays(toy: Path, tmp_path: Path) -> None:
    assert start(toy, SAY, DVC_SITE_CACHE_DIR=str(tmp_path / "other")) == str(tmp_path / "other")
    assert start(tmp_path, SAY) == "None"  # an environment that is in no checkout
    assert not (tmp_path / ".textmill").exists()


@pytest.mark.slow
def test_experiments_work_with_it(toy: Path) -> None:
    for key, value in (("user.name", "t"), ("user.email", "t@example.org")):
        subprocess.run(["git", "config", key, value], cwd=toy, check=True)
    start(toy, DVC.format(["exp", "run", "--temp", "-S", "words.text=b", "words"]))
    start(toy, DVC.format(["exp", "run", "--queue", "-S", "words.text=c", "words"]))
    start(toy, DVC.format(["exp", "run", "--run-all"]))
    assert len(start(toy, DVC.format(["exp", "list", "--name-only"])).split()) >= 2
    assert not list(toy.rglob("exps/**/.textmill/dvc"))
