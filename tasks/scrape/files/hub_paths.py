"""What a data set may read: files below its own folder or repository, whatever its card or its state names."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError

CARDS = ("README.md", ".huggingface.yaml")
NAMING = ("data_files", "data_dir")
MAX_NAMES = 100_000
FRONT = re.compile(r"\A\ufeff?---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)


def check_dataset_card(dataset: str, folder: Path | None, revision: str | None) -> None:
    """Check what the data set's card names, before anybody looks there.

    Raises:
        UserError: a file that lies elsewhere.
    """
    for name in CARDS:
        configs: list[dict[str, Any]] = []
        with suppress(Exception):  # a card that is not there, or is none, names nothing; the rest `datasets` tells
            configs = list(_configs(_read(dataset, folder, revision, name)))
        for named in _names([config.get(key) for config in configs for key in NAMING]):
            _check(dataset, name, named)


def check_saved_dataset(folder: Path) -> None:
    """The same for what `save_to_disk` has left.

    Raises:
        UserError: as `check_dataset_card`.
    """
    for path in (folder / "dataset_dict.json", folder / "state.json", *folder.glob("*/state.json")):
        if path.is_file():
            state = json.loads(path.read_bytes())
            for named in _names([state.get("splits"), state.get("_data_files")]):
                _check(str(folder), path.name, named)


def check_data_files(dataset: str, folder: Path | None, files: Iterable[Any]) -> None:
    """Check where the files lie that were found in the end, symbolic links followed.

    Raises:
        UserError: one lies elsewhere.
    """
    for file in map(str, files):
        home = folder.resolve() if folder else None
        inside = Path(file).resolve().is_relative_to(home) if home else file.startswith("hf://datasets/")
        if not inside:
            raise _elsewhere(dataset, "it", file)


def _read(dataset: str, folder: Path | None, revision: str | None, name: str) -> str:
    if folder is None:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(dataset, name, repo_type="dataset", revision=revision)).read_text("utf-8")
    return (folder / name).read_text("utf-8")


def _configs(card: str) -> Iterator[dict[str, Any]]:
    import yaml

    front = FRONT.match(card)
    about = yaml.safe_load(front.group(1) if front else card)
    configs = about.get("configs") if isinstance(about, dict) else None
    yield from (config for config in configs or () if isinstance(config, dict))


def _names(value: Any) -> Iterator[str]:
    """The strings in nested lists and mappings."""
    waiting, met = [value], 0
    while waiting and met < MAX_NAMES:
        part, met = waiting.pop(), met + 1
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _check(dataset: str, where: str, named: str) -> None:
    parts = re.split(r"[/\\]", named)
    if "://" in named or "::" in named or ".." in parts or named.startswith(("/", "\\", "~")) or ":" in parts[0]:
        raise _elsewhere(dataset, where, named)


def _elsewhere(dataset: str, where: str, named: str) -> UserError:
    return UserError(
        f"{dataset}: {where} names {named[:200]!r}, which lies outside of the data set. Only its own files are read; name "
        "others as a source of their own."
    )
