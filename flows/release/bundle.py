"""A release on disk, `releases/<version>/`: the model, its GGUF, the card, and what it came from; links that take no room."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core import graph
from tasks.core.errors import UserError
from tasks.core.links import link_file
from tasks.core.paths import write_json
from tasks.core.tracking.logged_models import is_model_file
from tasks.model.model_pointer import resolve_model
from tasks.model.released import FACTS, GGUF, MODEL, release_folder
from tasks.model.served_format import served_format

BEING_MADE = "new"


@dataclass(frozen=True)
class Candidate:
    """What would be released: the model's folder, the format that is served (None: it has no GGUF), and DVC's hashes of the
    outputs that both lie in.
    """

    model: Path
    format: str | None
    model_md5: str
    quantize_md5: str

    @property
    def output(self) -> str:
        """DVC's name of the model's folder, e.g. data/prefer."""
        return f"data/{self.model.name}"


def find_candidate(root: Path, metrics: dict[str, Any]) -> Candidate:
    """The model that the last run came to.

    Raises:
        UserError: it is the one that was given, as it was.
    """
    model = resolve_model(root / "data/prefer")
    if model.parent != root / "data":
        raise UserError(
            f"{model}: is a given model as it was: nothing was trained here, so there is nothing to release"
        )
    stage = model.name
    return Candidate(
        model,
        served_format(metrics["quantize"]["formats"]),
        graph.output_hashes(root, stage)[f"data/{stage}"],
        graph.output_hashes(root, "quantize")["data/quantize"],
    )


def write_bundle(root: Path, candidate: Candidate, facts: dict[str, Any], card: str, page: str) -> Path:
    """Write the release into a folder of its own beside the finished ones, and return it; `finish_bundle` gives it its number."""
    folder = release_folder(root, BEING_MADE)
    shutil.rmtree(folder, ignore_errors=True)  # what a release that was interrupted left
    model = [path for path in candidate.model.iterdir() if path.is_file() and is_model_file(path.name)]
    _link_files(model, folder / MODEL)
    if candidate.format:
        _link_files((root / "data/quantize" / candidate.format).iterdir(), folder / GGUF)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "card.html").write_text(page, encoding="utf-8")
    shutil.copyfile(root / "dvc.lock", folder / "dvc.lock")
    shutil.copyfile(root / "params.yaml", folder / "params.yaml")
    write_json(folder / FACTS, facts)
    return folder


def finish_bundle(root: Path, folder: Path, number: int) -> Path:
    """Give the release its number; a folder of that name is of a version that MLflow has forgotten."""
    target = release_folder(root, str(number))
    shutil.rmtree(target, ignore_errors=True)
    return folder.rename(target)


def _link_files(files: Iterable[Path], target: Path) -> None:
    target.mkdir(parents=True)
    for path in files:
        link_file(path, target / path.name)
