"""The model that is asked for by name: a file, a released version, or the one that the last run made."""

import sys
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.params import read_yaml
from tasks.model.released import GGUF, read_facts, release_folder
from tasks.serving.model_file import find_model


def asked_model(asked: str | None, root: Path) -> Path:
    """The GGUF file of `asked`: a path of a .gguf file, a version (its number, `latest`, `candidate` or `champion`), or, for
    None, what quantize made. Of a version it is said which it is, and whether data/quantize holds another model.

    Raises:
        UserError: no such file or version, or one that has no GGUF.
    """
    if asked is None:
        return find_model()
    if asked.endswith(".gguf") or Path(asked).exists():
        return Path(asked)
    from tasks.core.tracking.registry import Registry
    from tasks.core.tracking.store import open_store

    registry = Registry(open_store(root))
    version = registry.resolve(asked)
    folder = release_folder(root, str(version.number))
    facts = read_facts(folder)
    if not facts["format"]:
        raise UserError(f"{folder}: this version has no GGUF, so it is neither chatted with nor served")
    print(f"{registry.name} {version.title}, of {version.date}", file=sys.stderr)
    if _md5_of_quantize(root) not in (None, facts["quantize_md5"]):
        print("data/quantize holds another model than this version: make release to release it", file=sys.stderr)
    return folder / GGUF / "model.gguf"


def _md5_of_quantize(root: Path) -> str | None:
    lock = root / "dvc.lock"
    stages = read_yaml(lock).get("stages", {}) if lock.exists() else {}
    outs = stages.get("quantize", {}).get("outs", [])
    return next((out["md5"] for out in outs if out["path"] == "data/quantize"), None)
