"""Checkpoints that are whole or absent: written beside their place, renamed, and checked by hash before use."""

import hashlib
import json
import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.core.errors import UserError
from tasks.core.paths import write_json
from tasks.pretrain.checkpoints.average import use_mean
from tasks.pretrain.checkpoints.fragment_files import FragmentFiles, first_problem, write_fragments
from tasks.pretrain.distributed import ProcessGroup
from tasks.pretrain.launching.launch import PARTIAL
from tasks.pretrain.optimizers.fragments import Fragment
from tasks.pretrain.optimizers.optimizer import MixedOptimizer

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk; `state` is what the loop gave to `save`."""

    folder: Path
    step: int
    state: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run in `folder`. Every method is collective.

    `fragments` are this rank's; `sharded`: no rank has all of them. `averaged`: steps whose checkpoints are averaged at the end.
    """

    folder: Path
    group: ProcessGroup
    fragments: list[Fragment]
    optimizer: MixedOptimizer
    sharded: bool
    averaged: tuple[int, ...] = ()
    keep: int = 2

    def save(self, step: int, state: dict[str, Any], curves: Path, best: bool = False, stable: bool = False) -> Path:
        """Write `folder/step-<step>`: weights and optimizer of every rank, the loop's `state` (JSON), the curves so far.

        The last `keep` stay, those that will be averaged, and the last that was `best` or `stable`. All that are there are finite.

        Raises:
            UserError: a weight holds an inf or nan.
        """
        group, partial, final = self.group, self.folder / PARTIAL, self.folder / _name(step)
        problem = first_problem(self.fragments, self.optimizer)
        if group.all_reduce_sum(float(problem is not None))[0]:
            raise UserError(
                f"pretrain: at step {step} a weight is not finite{f' ({problem})' if problem else ''}: nothing is saved of it. "
                "The checkpoint before it stays. Lower pretrain.learning_rate or raise pretrain.warmup_steps"
            )
        if group.is_rank_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        group.barrier()
        mine = self.fragments if self.sharded else self.fragments[group.rank :: group.size]
        for path in write_fragments(partial, mine, self.optimizer, group.rank, group.size):
            write_json(partial / f"{path.stem}.json", {"digest": _digest(path)})
        group.barrier()
        if group.is_rank_zero:
            shutil.copyfile(curves, partial / "curves.csv")
            files = {
                path.name: json.loads(path.with_suffix(".json").read_text())["digest"]
                for path in sorted(partial.glob("*.safetensors"))
            }
            for name in files:
                (partial / name).with_suffix(".json").unlink()
            manifest = {
                "step": step,
                "updates": self.optimizer.updates,
                "state": state,
                "best": best,
                "stable": stable,
                "shapes": self.optimizer.shapes,
                "files": {**files, "curves.csv": _digest(partial / "curves.csv")},
            }
            write_json(partial / MANIFEST, manifest)
            shutil.rmtree(final, ignore_errors=True)
            partial.replace(final)
            self._remove_old()
        group.barrier()
        return final

    def _remove_old(self) -> None:
        found = _by_step(self.folder)
        kept = {*found[: self.keep], *(self.folder / _name(step) for step in self.averaged)}
        for kind in ("best", "stable"):
            kept.update([path for path in found if _marked(path, kind)][:1])
        for path in found:
            if path not in kept:
                shutil.rmtree(path)

    def load_latest(self) -> Checkpoint | None:
        """Load the newest whole checkpoint, whatever ranks and ZeRO stage wrote it; None where there is none."""
        name = self.group.broadcast(self._newest_whole() if self.group.is_rank_zero else None)
        return self.load(self.folder / name) if name else None

    def load(self, folder: Path) -> Checkpoint:
        """Load one that is whole. The weights that the model computes with are to be refreshed then.

        Raises:
            UserError: it is of another architecture, or the files lack something.
        """
        manifest = _read(folder)
        ours = {name: list(shape) for name, shape in self.optimizer.shapes.items()}
        if manifest["shapes"] != ours:
            other = sorted(
                name
                for name in ours.keys() | manifest["shapes"].keys()
                if ours.get(name) != manifest["shapes"].get(name)
            )
            raise UserError(
                f"{folder}: is a checkpoint of another architecture: {other[0]} is {manifest['shapes'].get(other[0])} there and "
                f"{ours.get(other[0])} here. Remove the folder to start over"
            )
        self.optimizer.updates = int(manifest["updates"])
        FragmentFiles(folder).load(self.fragments, self.optimizer)
        return Checkpoint(folder, int(manifest["step"]), manifest["state"])

    def best(self) -> Path | None:
        """The checkpoint with the best validation."""
        found = (path for path in _by_step(self.folder) if _marked(path, "best"))
        return next((path for path in found if not find_problem(path)), None)

    def weights(self, folder: Path) -> dict[str, torch.Tensor]:
        """All weights of a checkpoint on the CPU, fp32, by name."""
        files, shapes = FragmentFiles(folder), self.optimizer.shapes
        return {name: files.read("weight", name, 0, math.prod(shape)).view(shape) for name, shape in shapes.items()}

    def use_mean(self) -> None:
        """Put the mean of the weights of `averaged` in the place of the weights.

        Raises:
            UserError: one of the checkpoints is missing or damaged.
        """
        folders = [self.folder / _name(step) for step in self.averaged]
        problem = self.group.broadcast(_first_problem(folders) if self.group.is_rank_zero else None)
        if problem:
            raise UserError(f"{problem}: pretrain.average_checkpoints needs it. Run it again: it is trained anew")
        use_mean(folders, self.fragments, self.optimizer)

    def _newest_whole(self) -> str | None:
        for candidate in _by_step(self.folder):
            before = [self.folder / _name(step) for step in self.averaged if _name(step) < candidate.name]
            if lacking := _first_problem(before):
                log.warning("%s; as it is to be averaged, the checkpoint before it is looked for", lacking)
            elif problem := find_problem(candidate):
                log.warning("%s: %s; this checkpoint is passed over for the one before it", candidate, problem)
            else:
                return candidate.name
        return None


def _first_problem(folders: list[Path]) -> str | None:
    return next((f"{folder}: {problem}" for folder in folders if (problem := find_problem(folder))), None)


def find_problem(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files; None: they are as they were written."""
    try:
        files: dict[str, str] = _read(folder)["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _digest(path) != digest:
            return f"{name} was changed or damaged"
    return None


def _read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return content


def _marked(folder: Path, kind: str) -> bool:
    try:
        return bool(_read(folder)[kind])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # damaged


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _name(step: int) -> str:
    return f"step-{step:09d}"


def _by_step(folder: Path) -> list[Path]:
    """Checkpoints, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)
