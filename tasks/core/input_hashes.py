"""Input hashes: whether what a stage reads is what DVC believes it to be. DVC goes by size and time; a bit that turned on the disk, or an
object in its cache that is cut, it neither sees nor mends.
"""

import logging
import shlex
import time
from pathlib import Path
from typing import Any

from tasks.core import graph
from tasks.core.errors import UserError

SHOWN = 20
TOLD_AFTER_S = 5.0
log = logging.getLogger(__name__)


def require_intact(root: Path, node: graph.Node) -> None:
    """Read all the data that a stage depends on and compare them with the hashes that DVC has for them.

    It costs what MD5 does: 0.5 GB/s were measured on two cores, large files side by side.

    Raises:
        UserError: a file is another than DVC recorded; says what brings it back.
    """
    started = time.monotonic()
    with graph.open_repo(root) as repo:
        damaged = [entry for path in node.inputs.values() for entry in _damaged(repo, path)]
        if damaged:
            raise UserError(f"{node.name}: {_explain(root, repo, damaged)}")
    if (took := time.monotonic() - started) > TOLD_AFTER_S:
        log.info("%s: compared its inputs with their hashes in %.0f s", node.name, took)


Damaged = tuple[Path, str | None]
"""A file, and the hash that DVC has recorded of it."""


def _damaged(repo: Any, path: Path) -> list[Damaged]:
    from dvc.fs import localfs
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db.local import LocalHashFileDB

    cache = repo.cache.local
    trusting_nothing = LocalHashFileDB(localfs, cache.path)  # without the table of sizes and times
    try:
        *_, believed = build(cache, str(path), localfs, "md5", ignore=repo.dvcignore, dry_run=True)
        *_, found = build(trusting_nothing, str(path), localfs, "md5", ignore=repo.dvcignore, dry_run=True)
    except PermissionError as error:
        raise UserError(f"{error.filename or path}: cannot be read: {error.strerror}") from None
    if believed.hash_info == found.hash_info:
        return []
    was, now = _by_file(path, believed), _by_file(path, found)
    return [(file, was.get(file)) for file in sorted(was.keys() | now.keys()) if was.get(file) != now.get(file)]


def _by_file(path: Path, content: Any) -> dict[Path, str]:
    if not content.hash_info.isdir:
        return {path: content.hash_info.value}
    return {path.joinpath(*key): of_file.value for key, _, of_file in content}


def _explain(root: Path, repo: Any, damaged: list[Damaged]) -> str:
    shown, more = damaged[:SHOWN], len(damaged) - SHOWN
    gone = [file for file, _ in shown] + [path for _, recorded in shown if (path := _object(repo, recorded))]
    files = ", ".join(str(file.relative_to(root)) for file, _ in shown) + (f" and {more} more" if more > 0 else "")
    remove = "rm -f " + shlex.join(str(path.relative_to(root) if path.is_relative_to(root) else path) for path in gone)
    owners = sorted({_owner(root, repo, file) for file, _ in shown})
    return (
        f"{files}: damaged on the disk: not what DVC has recorded, though size and time may say so. Remove it, also "
        f"from DVC's cache where it is named:\n  {remove}\n" + "\n".join(owners)
    )


def _object(repo: Any, recorded: str | None) -> Path | None:
    """The object in DVC's cache of that hash, if it is damaged too."""
    from dvc_data.hashfile.hash import file_md5

    if recorded is None:
        return None
    path = repo.cache.local.oid_to_path(recorded)
    return Path(path) if Path(path).exists() and file_md5(path) != recorded else None


def _owner(root: Path, repo: Any, file: Path) -> str:
    """How the output that a file is part of comes back."""
    for out in repo.index.outs:
        if file.is_relative_to(out.fs_path):
            again = f"`dvc repro {out.stage.name}`, which makes it anew" if out.stage.cmd else "the copy that you have"
            return f"Then `dvc pull {out.def_path}` brings it back from the remote; where that lacks it: {again}."
    return f"Then bring it back from where you have it (git checkout {file.relative_to(root)})."
