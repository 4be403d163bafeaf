"""A full disk, as those tell of it who write there."""

import errno
import re

NO_ERRNO = re.compile(r"^\d+ requested and \d+ written$|No space left on device|database or disk is full")
"""What numpy (`tofile`, and `save` of large arrays), safetensors and SQLite say, whose errors carry no number."""


def is_full(error: BaseException | None) -> bool:
    """Whether `error`, or one that it was raised from or beside, says that there is no space left or the quota is spent."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or (number is None and NO_ERRNO.search(str(error))):
            return True
        error = error.__cause__ or error.__context__
    return False
