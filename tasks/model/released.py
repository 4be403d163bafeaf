"""Where released models lie, and what each says of itself; `flows.release` writes them, chat and serving read them."""

import json
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError

RELEASES = "releases"
FACTS, MODEL, GGUF = "release.json", "model", "gguf"


def release_folder(root: Path, version: str) -> Path:
    """The folder of a version in the project `root`."""
    return root / RELEASES / version


def read_facts(folder: Path) -> dict[str, Any]:
    """What a release came from.

    Raises:
        UserError: there is no such release on this machine, or it cannot be read.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder}: this version is not on this machine. Copy the folder from where it was released, or check out its commit, "
            "make run and make release"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{folder / FACTS}: no valid JSON ({error}). Copy the folder again from where it was released"
        ) from None
    return facts
