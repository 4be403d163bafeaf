"""Kernels are compiled once for all workspaces of a checkout, and anew where what they are made of has changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT

KERNEL = """
from tasks.similarity.numba_cache import jit
from tasks.similarity.tiny_part import OFFSET, part

@jit
def whole(x):
    return part(x) + OFFSET
"""
PART = """
from tasks.similarity.numba_cache import jit
OFFSET = 1

@jit
def part(x):
    return 2 * x
"""
ASK = (
    "import json; from tasks.similarity.tiny_kernel import whole; from tasks.similarity.tiny_part import part; "
    "from collections import Counter; value = whole(20); "
    "print(json.dumps([value, sum(whole.stats.cache_hits.values()), sum(whole.stats.cache_misses.values())]))"
)


def workspace(folder: Path, part: str = PART) -> Path:
    """A checkout with a kernel that calls one of another module and holds a constant of it."""
    package = folder / "tasks" / "similarity"
    package.mkdir(parents=True)
    shutil.copytree(ROOT / "tasks" / "core", folder / "tasks" / "core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tasks/__init__.py", "tasks/similarity/__init__.py", "tasks/similarity/numba_cache.py"):
        shutil.copy(ROOT / name, folder / name)
    (package / "tiny_kernel.py").write_text(KERNEL)
    (package / "tiny_part.py").write_text(part)
    return folder


def ask(folder: Path, checkout: Path) -> list[int]:
    """The kernel's answer, and how often it was loaded and compiled for that in a new process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA")} | {"DVC_ROOT": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    found: list[int] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_the_second_workspace_compiles_nothing(tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "checkout")
    assert ask(checkout, checkout) == [41, 0, 1]
    second = workspace(tmp_path / "temporary" / "second")
    assert ask(second, checkout) == [41, 1, 0]
    assert not list(second.rglob("*.nbc"))  # what it would leave there goes with it
    (second / "tasks/similarity/unrelated.py").write_text("x = 1\n")
    assert ask(second, checkout) == [41, 1, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "answer"), [("2 * x", "3 * x", 61), ("OFFSET = 1", "OFFSET = 5", 45)])
def test_a_kernel_is_compiled_anew_when_what_it_uses_changes(
    tmp_path: Path, before: str, after: str, answer: int
) -> None:
    """numba looks at the file of the kernel alone, and would go on with the old machine code of the rest."""
    checkout = workspace(tmp_path / "checkout")
    assert ask(checkout, checkout) == [41, 0, 1]
    branch = workspace(tmp_path / "branch", PART.replace(before, after))
    assert ask(branch, checkout) == [answer, 0, 1]
    assert ask(checkout, checkout) == [41, 1, 0]  # the first is kept beside it


@pytest.mark.slow
def test_where_nothing_can_be_kept_kernels_are_compiled_all_the_same(tmp_path: Path) -> None:
    checkout = workspace(tmp_path / "checkout")
    (checkout / ".textmill").write_text("a file where the folder should be")
    assert ask(checkout, checkout)[0] == 41
