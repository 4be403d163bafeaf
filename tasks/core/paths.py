"""What a stage reads and writes: inputs by the names dvc.yaml gives them, one output folder that appears whole or not at all."""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tasks.core.errors import UserError

log = logging.getLogger(__name__)

Metrics = dict[str, Any]
"""What a stage measured: names to numbers, strings or nested dicts of them. Deterministic; written to metrics/<stage>.json."""

REFRESH_VARIABLE = "TEXTMILL_REFRESH"
"""Asks a stage that reads from outside the project to look for what has changed since its last good output."""

STATE = Path(".textmill")
"""State of this checkout that is no result: MLflow's database, unfinished work, locks, timings. Ignored by git and DVC."""

FORGOTTEN_AFTER_S = 30 * 86400
"""Unfinished work that nothing has touched for this long is removed."""


class Inputs(Mapping[str, Path]):
    """The data a stage depends on: last part of the path in dvc.yaml → path. `inputs["documents"]`.

    Attributes:
        settings: keys of other stages' blocks that dvc.yaml lists among the stage's params, dotted → value.
    """

    def __init__(
        self, paths: Mapping[str, Path], stage: str = "this stage", settings: Mapping[str, Any] | None = None
    ) -> None:
        self._paths, self._stage, self.settings = dict(paths), stage, dict(settings or {})

    def __getitem__(self, name: str) -> Path:
        try:
            return self._paths[name]
        except KeyError:
            known = ", ".join(sorted(self._paths)) or "none"
            raise UserError(f"dvc.yaml: {self._stage}: needs a dependency named {name!r}; it has: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


@dataclass
class Outputs:
    """Where a stage writes.

    Attributes:
        root: becomes `data/<stage>/` when the stage has succeeded; until then a folder beside it.
        work: survives a kill and is found again by a start with the same code, parameters and inputs (checkpoints,
            a crawl's frontier); removed when the stage has succeeded.
        previous: the stage's last good output, where a refresh was asked for (flows.pipeline --refresh); gone after the run.
        timings: what differs from run to run (seconds, tokens per second, MFU); goes to MLflow, never to metrics/.
    """

    root: Path
    work: Path
    previous: Path | None = None
    timings: dict[str, float] = field(default_factory=dict)

    def __truediv__(self, name: str) -> Path:
        return self.root / name


def state_folder(root: Path) -> Path:
    """The state that all workspaces of a checkout share: DVC_ROOT names the checkout that a queued experiment belongs to.

    What is true of one workspace alone (timings, provenance) stands in that workspace's own `STATE`.
    """
    folder = Path(os.environ.get("DVC_ROOT") or root) / STATE
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def work_folder(root: Path, stage: str, identity: object) -> Iterator[Path]:
    """Where unfinished work of `stage` is kept under the fingerprint of `identity`; this process's alone while inside.

    `identity` is all that decides the result: parameters (`StageParams.work_identity`) and the hashes of code and inputs. Of
    two experiments that start the same work at once, the second waits, and continues it where the first was stopped.
    """
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    folder = state_folder(root) / "work" / stage / fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)  # however long ago it was stopped, by whatever clock
    _forget_old_work(root)
    lock = _work_lock(root, stage, fingerprint)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another run works on the same; waiting for it to end", stage)
        lock.acquire()
    try:
        folder.mkdir(parents=True, exist_ok=True)  # another run may have ended the same work
        os.utime(folder)
        yield folder
    finally:
        lock.release()


def _work_lock(root: Path, stage: str, fingerprint: str) -> FileLock:
    """Beside the work, since that is removed; itself never removed, for somebody may be waiting for it."""
    folder = state_folder(root) / "locks"
    folder.mkdir(exist_ok=True)
    return FileLock(folder / f"{stage}-{fingerprint}.lock")


def _forget_old_work(root: Path) -> None:
    """Remove work that nobody holds and nobody continued: of parameters, inputs or code that were given up."""
    for folder in (state_folder(root) / "work").glob("*/*"):
        if _untouched_s(folder) > FORGOTTEN_AFTER_S:
            with suppress(Timeout), _work_lock(root, folder.parent.name, folder.name).acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def _untouched_s(folder: Path) -> float:
    with suppress(FileNotFoundError):  # it is being worked in
        return time.time() - max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    return 0


def leave_user_error(root: Path, stage: str, message: str) -> None:
    """Leave the message of a stage that a user's mistake has stopped to whoever started it, and has its exit code alone."""
    path = root / STATE / "mistakes" / f"{stage}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(message, encoding="utf-8")


def take_user_error(root: Path, stage: str) -> str | None:
    """The message that the stage has left, once."""
    path = root / STATE / "mistakes" / f"{stage}.txt"
    if not path.exists():
        return None
    message = path.read_text(encoding="utf-8")
    path.unlink()
    return message


def matching_files(pattern: str, root: Path = Path()) -> list[Path]:
    """The file of that name, whatever characters it has, or else all that match the glob, sorted; from `root` unless absolute."""
    if (root / pattern).is_file():
        return [root / pattern]
    anchor = Path(Path(pattern).anchor)
    return sorted(path for path in (root / anchor).glob(str(Path(pattern).relative_to(anchor))) if path.is_file())


def write_json(path: Path, content: object) -> None:
    """Write JSON (sorted keys, no NaN) beside its place and rename it.

    Raises:
        ValueError: a value is NaN, infinite, or no JSON.
    """
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON Lines: a row a line, keys in order."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")
