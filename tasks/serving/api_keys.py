"""API keys: the keys by which clients are let in; kept as digests, compared in constant time."""

import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tasks.core.errors import UserError

KEYS_VARIABLE = "TEXTMILL_API_KEYS"


def read_keys(given: Sequence[str], file: Path | None) -> tuple[bytes, ...]:
    """Digests of the keys of the command line, of a file (one a line; `#` begins a comment line), and of the environment
    (`TEXTMILL_API_KEYS`, with commas or spaces between), which is emptied of them.

    Raises:
        UserError: a key is empty, or the file cannot be read or holds none.
    """
    keys = [key.strip() for key in given]
    if not all(keys):
        raise UserError("--api-key: the key is empty. Leave the option out, or name keys in a file: --api-key-file")
    if file is not None:
        try:
            lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: these keys cannot be read ({error})") from None
        listed = [line for line in lines if line and not line.startswith("#")]
        if not listed:
            raise UserError(f"{file}: holds no key. Write one a line")
        keys += listed
    keys += [key for key in re.split(r"[\s,]+", os.environ.pop(KEYS_VARIABLE, "")) if key]
    return tuple(_digest(key.encode("utf-8", "surrogateescape")) for key in keys)


def is_known(key: bytes, digests: Sequence[bytes]) -> bool:
    """Whether one of the digests is this key's; takes the same time whichever it is, and for a key that is none."""
    digest = _digest(key)
    return any([hmac.compare_digest(digest, known) for known in digests])  # noqa: C419 - a generator would stop early


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
