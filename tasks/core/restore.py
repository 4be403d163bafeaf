"""A run that failed or was killed takes nothing away: DVC removes a stage's outputs before it runs, its cache has them still."""

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from tasks.core import graph
from tasks.core.publish import complete_publishing, publish_lock

log = logging.getLogger("textmill")


def recover(root: Path) -> None:
    """What every command does first: complete what a killed stage had begun to publish, bring back what one took away."""
    complete_publishing(root)
    if gone := _gone(root):
        restore(root, gone - _running(root))


def restore(root: Path, stages: Iterable[str]) -> list[str]:
    """Put the outputs of `stages` back as dvc.lock records them; returns the stages of which something came back.

    A stage stays as it is where one of its outputs is there and another than dvc.lock says, or DVC's cache lacks something.
    """
    if not (wanted := _gone(root).intersection(stages)):
        return []
    with graph.open_repo(root) as repo, publish_lock(root):
        found = [stage for stage in graph.declared_stages(repo) if stage.name in wanted]
        back = [stage.name for stage in found if _restore(repo, stage)]
    if back:
        log.info("What the last good run made is back in place: %s", ", ".join(back))
    return back


def check_out_last_output(root: Path, stage: str, place: Path) -> Path | None:
    """Make a copy of `data/<stage>` at `place`, as dvc.lock records it; None if DVC's cache has not all of it."""
    with graph.open_repo(root) as repo:
        outs = [out for node in graph.declared_stages(repo) if node.name == stage for out in node.outs]
        data = next(out for out in outs if out.def_path == f"data/{stage}")
        return place if data.hash_info and _check_out(repo, data, place) else None


def _gone(root: Path) -> set[str]:
    """Stages that dvc.lock knows and of which an output is missing."""
    if not (root / "dvc.lock").exists():
        return set()
    with graph.open_repo(root) as repo:
        stages = graph.declared_stages(repo)
        return {stage.name for stage in stages if any(out.hash_info and not out.exists for out in stage.outs)}


def _running(root: Path) -> set[str]:
    """Stages whose outputs a living DVC process writes, by its own list."""
    try:
        written = json.loads((root / ".dvc/tmp/rwlock").read_text(encoding="utf-8")).get("write", {})
    except FileNotFoundError:
        return set()
    except ValueError:  # being written
        return set(graph.load_graph(root))
    paths = {path for path, by in written.items() if psutil.pid_exists(by["pid"])}
    return {
        node.name
        for node in graph.load_graph(root).values()
        if any(str(root / output) in paths for output in node.outputs)
    }


def _restore(repo: Any, stage: Any) -> bool:
    missing = [out for out in stage.outs if not out.exists]
    if any(not out.hash_info for out in stage.outs) or any(
        out.changed_checksum() for out in stage.outs if out not in missing
    ):
        return False
    beside = {Path(out.fs_path): _beside(Path(out.fs_path)) for out in missing}
    try:
        if not all(_check_out(repo, out, place) for out, place in zip(missing, beside.values(), strict=True)):
            return False
        for final, place in beside.items():
            place.rename(final)
    finally:
        for place in beside.values():
            _remove(place)
    return bool(missing)


def _check_out(repo: Any, out: Any, place: Path) -> bool:
    """Put the content of an output at `place`; False if DVC's cache was emptied or never filled, or the disk is full."""
    from dvc_data.hashfile import load
    from dvc_data.hashfile.checkout import CheckoutError, checkout
    from dvc_objects.errors import ObjectFormatError

    try:
        content = load(out.cache, out.hash_info)
        checkout(str(place), out.fs, content, out.cache, force=True, quiet=True, state=repo.state)
    except (CheckoutError, ObjectFormatError, OSError):
        return False
    return True


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.restored")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
