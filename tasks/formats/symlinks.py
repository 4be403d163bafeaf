"""Symbolic links below a folder that the user named: followed where they stay in it, as what others left there may lead anywhere."""

import glob
import logging
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)
CACHE = Path(".dvc/cache")
"""Where DVC may keep the files themselves (cache.type symlink)."""


def paths_within(paths: Iterable[Path], folder: Path) -> list[Path]:
    """The paths whose files lie in `folder`, or in DVC's cache; of others a warning tells how many are passed over."""
    homes = (folder.resolve(), CACHE.resolve())
    paths = list(paths)
    kept = [path for path in paths if any(path.resolve().is_relative_to(home) for home in homes)]
    if left := len(paths) - len(kept):
        log.warning("%s: %d symbolic links lead out of it and are passed over; name what is to be read.", folder, left)
    return kept


def glob_root(pattern: str | Path) -> Path:
    """The folder before the first part of a glob that is one."""
    fixed = Path(pattern).parts[:0]
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed = (*fixed, part)
    return Path(*fixed)


def contained_matches(paths: Iterable[Path], pattern: str | Path) -> list[Path]:
    """What a glob has matched, as `paths_within` has it; a name that is no glob is what the user named."""
    return paths_within(paths, glob_root(pattern)) if glob.has_magic(str(pattern)) else list(paths)
