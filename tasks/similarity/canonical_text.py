"""Canonical text: when two texts count as the same; equal after case folding, NFC and collapsing of white space."""

import hashlib
import unicodedata

CANONICAL_FORM = "Unicode case folding, NFC, runs of white space to one space"


def canonical_text(text: str) -> str:
    """`text` case-folded, in NFC, with white space collapsed and stripped."""
    folded = " ".join(text.casefold().split())
    return folded if folded.isascii() else unicodedata.normalize("NFC", folded)


def digest(canonical: str) -> bytes:
    """BLAKE2b-128 of a text that `canonical_text` returned."""
    return hashlib.blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=16).digest()
