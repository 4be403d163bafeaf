"""The held-out split: which documents are held out; decided by the document's id alone, so that no other document can change it."""

import hashlib
from collections.abc import Iterable

TRAIN, VALIDATION = "train", "validation"


def fraction_of(name: str, salt: str = "split") -> float:
    """A number in [0, 1), uniform over names and independent for each `salt`: the first 52 bits of BLAKE2b."""
    digest = hashlib.blake2b(f"{salt}:{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 12) / (1 << 52)


def split_of(ids: Iterable[str], validation_fraction: float) -> list[str]:
    """`train` or `validation` for each document id.

    A larger fraction holds out the same documents and more: none goes back to training.
    """
    return [VALIDATION if fraction_of(name) < validation_fraction else TRAIN for name in ids]
