"""When two texts count as the same: equal after case folding, NFC and collapsing of white space."""

import hashlib
import unicodedata

NORMALISER = "Unicode case folding, NFC, runs of white space to one space"


def comparable(text: str) -> str:
    """`text` case-folded, in NFC, with white space collapsed and stripped."""
    folded = " ".join(text.casefold().split())
    return folded if folded.isascii() else unicodedata.normalize("NFC", folded)


def digest(comparable_text: str) -> bytes:
    """BLAKE2b-128 of a text that `comparable` returned."""
    return hashlib.blake2b(comparable_text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
