"""Model pointers: where a stage's model lies; in the stage's own folder or, where the stage had nothing to do, in that of an earlier one.

Such a stage leaves `model.json`, e.g. {"model": "../pretrain", "reason": "no conversation to tune on"}: the place, relative
to the folder, and why. Nothing is copied, and a project that is moved keeps its models. DVC sees the pointer alone, so a
stage that reads the one folder declares the other as a dependency too.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.paths import write_json

POINTER = "model.json"
TUNING_STAGES = ("finetune", "prefer")


def write_pointer(folder: Path, model: Path, reason: str) -> None:
    """Make `folder` stand for the model in `model`, a folder that stays where it is seen from `folder`."""
    place = Path(os.path.relpath(model.absolute(), folder.absolute())).as_posix()
    write_json(folder / POINTER, {"model": place, "reason": reason})


def is_pointer(folder: Path) -> bool:
    """Whether `folder` stands for a model elsewhere. One with a model of its own (`config.json`) does not."""
    return (folder / POINTER).is_file() and not (folder / "config.json").exists()


def resolve_model(folder: Path) -> Path:
    """The folder that holds the model of `folder`: itself, or what its pointer leads to, pointer by pointer.

    One that leads to a tokenizer that was adopted stands for the model that it was adopted from (`tasks.model.adopted_model`).

    Raises:
        UserError: a pointer cannot be read, leads to no folder, or leads back to where it began.
    """
    from tasks.model.adopted_model import adopted_model
    from tasks.model.start_from import SOURCE_FILE

    seen: list[Path] = []
    while is_pointer(folder):
        if folder.resolve() in seen:
            raise UserError(f"{folder / POINTER}: leads back to itself. {_again(folder)}")
        seen.append(folder.resolve())
        target = Path(os.path.normpath(folder / _read(folder / POINTER)["model"]))
        if not target.is_dir():
            raise UserError(
                f"{folder / POINTER}: leads to {target}, which is no folder. Restore it: dvc checkout {target}"
            )
        folder = target
    return adopted_model(folder) if seen and (folder / SOURCE_FILE).is_file() else folder


def tuned_stages(folders: Mapping[str, Path]) -> list[str]:
    """Of the stages that tune, in their order, those that did: whose folder among `folders` holds a model of its own."""
    return [stage for stage in TUNING_STAGES if not is_pointer(folders[stage])]


def pointer_reason(folder: Path) -> str:
    """Why the model of `folder` lies elsewhere.

    Raises:
        UserError: the pointer cannot be read.
    """
    return _read(folder / POINTER)["reason"]


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: no valid JSON ({error}). {_again(path.parent)}") from None
    fields = content if isinstance(content, dict) else {}
    place, reason = fields.get("model"), fields.get("reason", "")
    if not isinstance(place, str) or not place or Path(place).is_absolute() or not isinstance(reason, str):
        raise UserError(f"{path}: names no relative folder under `model`. {_again(path.parent)}")
    return {"model": place, "reason": reason}


def _again(folder: Path) -> str:
    return f"Make it again: dvc repro --force {folder.name}"
