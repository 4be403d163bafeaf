"""A full disk, however it is told."""

import errno
import re
import shutil
from pathlib import Path

FULL_BYTES = 1 << 20
"""With less than this free, a failure to write is taken for want of space: torch names no reason at all."""
FULL_DISK_MESSAGES = re.compile(
    r"No space left|Disk quota exceeded|database or disk is full|\d requested and \d+ written"
)
"""What torch, safetensors, Rust and SQLite say of it, in errors of their own classes; the last is numpy's."""


def no_space_left(error: BaseException, folder: Path) -> bool:
    """Whether `error`, or what caused it, means that no space (or none of a quota) was left where `folder` is."""
    seen: BaseException | None = error
    while seen is not None:
        number = seen.errno if isinstance(seen, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or (number is None and FULL_DISK_MESSAGES.search(str(seen))):
            return True
        seen = seen.__cause__ or seen.__context__
    return folder.exists() and shutil.disk_usage(folder).free < FULL_BYTES
