"""Stable checkpoints: what a run was before its learning rate decayed, kept for runs that decay later or otherwise.

Until the decay begins, runs that differ in their length and decay alone are the same run, so a longer one takes up where a
shorter one's decay began, and comes to the bytes that it would have come to from the start. They are no output: each can be
made again, and is, where it is missing.
"""

import hashlib
import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.paths import state_folder
from tasks.pretrain.checkpoints.files import find_problem

if TYPE_CHECKING:
    from tasks.pretrain.params import PlannedParams

AFTERWARDS = {
    *("steps", "continue_steps", "decay_fraction", "final_rate", "checkpoint_every", "keep_stable", "export"),
    "average_checkpoints",
}
"""What plays no part before the decay."""
MAX_RUNS = 3
TASKS = Path(__file__).parents[2]
CODE = ("pretrain", "architectures", "model", "tokens")
"""Rooms whose code decides what a run is."""
PACKAGES = ("torch", "transformers", "deepspeed", "numpy")


def stable_folder(params: "PlannedParams", pack: Path, tokenizer: Path) -> Path:
    """Where stable checkpoints of these parameters, rows and tokenizer are kept, trained by this code and these packages."""
    decided = [params.model_dump(exclude=AFTERWARDS), [version(package) for package in PACKAGES]]
    digest = hashlib.sha256(json.dumps(decided, sort_keys=True).encode())
    code = [path for room in CODE for path in (TASKS / room).rglob("*.py")]
    for folder, paths in ((pack, pack.rglob("*")), (tokenizer, tokenizer.rglob("*")), (TASKS, code)):
        for path in sorted(path for path in paths if path.is_file()):
            digest.update(str(path.relative_to(folder)).encode())
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return state_folder(pack.absolute().parents[1]) / "stable" / digest.hexdigest()[:16]


def keep_stable(checkpoint: Path, folder: Path, most: int) -> None:
    """Keep a checkpoint in `folder`, by hard links where they are possible: the newest `most`, of the last MAX_RUNS runs."""
    target = folder / checkpoint.name
    if most and not target.exists():
        beside = folder / f".{checkpoint.name}.partial"
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(checkpoint, beside, copy_function=_link)
        beside.rename(target)
    for old in sorted(folder.glob("step-*"), reverse=True)[most:]:
        shutil.rmtree(old)
    if folder.exists():
        os.utime(folder)
        for other in sorted(folder.parent.iterdir(), key=lambda path: -path.stat().st_mtime)[MAX_RUNS:]:
            shutil.rmtree(other)


def find_stable(folder: Path, before: int) -> Path | None:
    """The newest whole one of step `before` or earlier; None where there is none."""
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        if int(candidate.name.removeprefix("step-")) <= before and not find_problem(candidate):
            return candidate
    return None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
