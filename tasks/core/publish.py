"""Making a finished stage's output visible: its folder and its metrics, both or neither, wherever the process is killed.

The metrics are first written beside their place, as `metrics/.<stage>.json.ready`: from that rename on the stage is
published, and what a kill left undone is done by the next start of any command (`complete_publishing`). Before it, nothing has changed.
"""

import hashlib
import json
import re
import shutil
import time
from pathlib import Path

from filelock import FileLock

from tasks.core.errors import UserError
from tasks.core.paths import STATE, Metrics, Outputs, write_json

OBJECT = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
"""Where an object lies in a cache of DVC, wherever that is."""


def require_no_symlinks(root: Path, stage: str) -> None:
    """Check that a stage's outputs and the folders that hold them are no symbolic links: DVC and git follow none of them.

    A link that DVC itself has made, into its cache, is replaced like any output.

    Raises:
        UserError: one is; says how to use another disk.
    """
    for place in (root / "data", root / "data" / stage, root / "metrics", root / "metrics" / f"{stage}.json"):
        if place.is_symlink() and not OBJECT.search(str(place.readlink())):
            raise UserError(
                f"{place.relative_to(root)}: is a symbolic link to {place.readlink()}, and neither DVC nor git looks for "
                f"outputs behind one. Remove the link (what it leads to stays): rm {place.relative_to(root)}. To use another "
                "disk, move DVC's cache there (`dvc cache dir --local PATH`, and `dvc config --local cache.type symlink` so "
                "that outputs are links into it), or the whole checkout."
            )


def staging_folder(root: Path, stage: str) -> Path:
    """The empty folder beside `data/<stage>` that a stage fills. What an earlier, killed run left there goes."""
    folder = _staged(root, stage)
    for left in (folder, _old(root, stage)):
        _remove(left)
    folder.mkdir(parents=True)
    return folder


def publish(root: Path, stage: str, outputs: Outputs, metrics: Metrics) -> None:
    """Put a finished stage's folder and metrics in place of the old ones, then forget the work.

    Raises:
        OSError: it cannot be done; the old ones are where they were.
    """
    with publish_lock(root):
        write_json(_ready(root, stage), metrics)
        write_json(root / STATE / "made" / f"{stage}.json", {"at": time.time(), "metrics": _md5(_ready(root, stage))})
        try:
            _complete(root, stage)
        except OSError:
            _take_back(root, stage)
            raise
    shutil.rmtree(outputs.work, ignore_errors=True)


def complete_publishing(root: Path) -> None:
    """Complete what a killed process had begun to publish. Waits while another process publishes."""
    if not _begun(root):
        return
    with publish_lock(root):
        for stage in _begun(root):
            _complete(root, stage)


def publish_lock(root: Path) -> FileLock:
    """Held by whoever puts outputs in place; the kernel gives it back when the process ends, however it ends."""
    (root / STATE).mkdir(exist_ok=True)
    return FileLock(root / STATE / "publish.lock")


def made_at(root: Path, stage: str) -> float | None:
    """When this workspace made the metrics of a stage that lie in it, in seconds since 1970; None for another's."""
    note, metrics = root / STATE / "made" / f"{stage}.json", root / "metrics" / f"{stage}.json"
    if not note.exists() or not metrics.exists():
        return None
    made = json.loads(note.read_text(encoding="utf-8"))
    return float(made["at"]) if made["metrics"] == _md5(metrics) else None


def _begun(root: Path) -> list[str]:
    return sorted(path.name[1:].removesuffix(".json.ready") for path in (root / "metrics").glob(".*.json.ready"))


def _complete(root: Path, stage: str) -> None:
    """Each step may have been taken already: once the staged folder is gone, it is the one in place."""
    staged, final, old = _staged(root, stage), root / "data" / stage, _old(root, stage)
    if staged.exists():
        if final.exists():
            _remove(old)
            final.rename(old)
        staged.rename(final)
    _ready(root, stage).replace(root / "metrics" / f"{stage}.json")
    _remove(old)


def _remove(path: Path) -> None:
    """A folder, or a link to one: a link that was made while the stage ran goes, what it leads to stays."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _take_back(root: Path, stage: str) -> None:
    staged, final, old = _staged(root, stage), root / "data" / stage, _old(root, stage)
    if staged.exists():
        if old.exists() and not final.exists():
            old.rename(final)
        _ready(root, stage).unlink()


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _staged(root: Path, stage: str) -> Path:
    return root / "data" / f".{stage}.partial"


def _old(root: Path, stage: str) -> Path:
    return root / "data" / f".{stage}.old"


def _ready(root: Path, stage: str) -> Path:
    return root / "metrics" / f".{stage}.json.ready"
