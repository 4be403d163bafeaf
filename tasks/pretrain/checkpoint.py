"""Checkpoints that are whole or absent: written beside their place, renamed, and checked by hash before use."""

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.paths import write_json
from tasks.pretrain.distributed import ProcessGroup
from tasks.pretrain.launch import PARTIAL

log = logging.getLogger(__name__)
MAX_CHECKPOINTS = 2
TAG = "state"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk; `state` is what the loop gave to `save_checkpoint`."""

    folder: Path
    step: int
    state: dict[str, Any]


def save_checkpoint(
    engine: Any, group: ProcessGroup, folder: Path, step: int, state: dict[str, Any], curves: Path
) -> None:
    """Write `folder/step-<step>`: weights and optimizer of every rank, the loop's state, the curves so far.

    Collective. The last two checkpoints stay. `state` must be JSON.
    """
    partial = folder / PARTIAL
    if group.is_rank_zero:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    group.barrier()
    engine.save_checkpoint(str(partial), tag=TAG, save_latest=False)
    group.barrier()
    if group.is_rank_zero:
        shutil.copyfile(curves, partial / "curves.csv")
        manifest = {
            "step": step,
            "state": state,
            "ranks": group.size,
            "files": {
                str(path.relative_to(partial)): _digest(path) for path in sorted(partial.rglob("*")) if path.is_file()
            },
        }
        write_json(partial / "manifest.json", manifest)
        final = folder / _name(step)
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
        for old in _by_step(folder)[MAX_CHECKPOINTS:]:
            shutil.rmtree(old)
    group.barrier()


def load_latest_checkpoint(engine: Any, group: ProcessGroup, folder: Path, zero_stage: int) -> Checkpoint | None:
    """Load the newest whole checkpoint into `engine`; None where there is none. Collective.

    Raises:
        UserError: it was written by another number of ranks and its ZeRO stage splits it over them.
    """
    name = group.broadcast(_newest_whole(folder) if group.is_rank_zero else None)
    if name is None:
        return None
    manifest = json.loads((folder / name / "manifest.json").read_text())
    if zero_stage and manifest["ranks"] != group.size:
        raise UserError(
            f"{folder / name}: this checkpoint of ZeRO stage {zero_stage} is split over {manifest['ranks']} ranks, now there "
            f"are {group.size}. Set `ranks: {manifest['ranks']}` in execution.yaml to continue, or delete {folder} to start over"
        )
    path, _ = engine.load_checkpoint(str(folder / name), tag=TAG)
    if path is None:
        raise RuntimeError(f"{folder / name}: DeepSpeed found nothing to load")
    return Checkpoint(folder / name, int(manifest["step"]), manifest["state"])


def _newest_whole(folder: Path) -> str | None:
    for candidate in _by_step(folder):
        if problem := _problem(candidate):
            log.warning("%s: %s; this checkpoint is passed over for the one before it", candidate, problem)
        else:
            return candidate.name
    return None


def _problem(folder: Path) -> str | None:
    try:
        files: dict[str, str] = json.loads((folder / "manifest.json").read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"manifest.json cannot be read ({error})"
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _digest(path) != digest:
            return f"{name} was changed or damaged"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _name(step: int) -> str:
    return f"step-{step:09d}"


def _by_step(folder: Path) -> list[Path]:
    """Checkpoints, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)
