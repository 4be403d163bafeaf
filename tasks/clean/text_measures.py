"""Quality measures of a text, each a number that a threshold decides over.

| measure | source |
| --- | --- |
| symbol_ratio | Laurençon et al. 2022, the ROOTS corpus (arXiv:2303.03915): special characters ratio; here of non-space ones |
| duplicate_line_ratio, top_ngram_ratio | Rae et al. 2021, Gopher (arXiv:2112.11446), table A1: share of characters |
| character_entropy | Shannon 1951, "Prediction and Entropy of Printed English": 4.1 bits a letter in English |
| zlib_ratio | Carlini et al. 2021, "Extracting Training Data" (arXiv:2012.07805): the compressor as a judge of repetition |

Gopher's thresholds were made for prose. Reference documentation repeats its lines and phrases by nature ("Return
repr(self).") and is full of symbols, so the defaults in CleanParams are wider.
"""

import zlib
from collections import Counter
from functools import lru_cache
from operator import mul

import numpy as np
import numpy.typing as npt

from tasks.documents.word_characters import INVISIBLE, is_word_character

Characters = tuple[str, npt.NDArray[np.int64]]
"""Each character of a text, once, and how often it comes: int64 [characters]."""
UNDRAWN, IN_WORD, SYMBOL = range(3)


def count_characters(text: str) -> Characters:
    """The characters of a text and their numbers, by numpy: ten times as fast as a Counter."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    counts = np.bincount(codes)
    found = np.flatnonzero(counts)
    return "".join(map(chr, found.tolist())), counts[found]


def symbol_ratio(characters: Characters) -> float:
    """Share of the visible characters that are no letters, digits or marks."""
    known, counts = characters
    kinds = np.array([_kind(character) for character in known], np.uint8)
    visible = int(counts[kinds != UNDRAWN].sum())
    return int(counts[kinds == SYMBOL].sum()) / visible if visible else 0.0


@lru_cache(1 << 16)
def _kind(character: str) -> int:
    if character.isspace() or character in INVISIBLE:
        return UNDRAWN
    return IN_WORD if is_word_character(character) else SYMBOL


def duplicate_line_ratio(text: str) -> float:
    """Share of characters in lines that stood in the text before; blank lines do not count."""
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    total = sum(map(len, lines))
    return (total - sum(map(len, set(lines)))) / total if total else 0.0


def top_ngram_ratio(text: str, n: int, least: float = 0.0) -> float:
    """Share of characters (spaces aside) that lie in the commonest word n-gram; 0 where none comes twice.

    Where it is below `least` for sure, it is not looked for, and 0 returned: an n-gram comes at most as often as its words.
    """
    words = text.split()
    total = sum(map(len, words))
    counts = Counter(words)
    if least and n * max(map(mul, map(len, counts), counts.values()), default=0) < least * total:
        return 0.0
    grams = Counter(zip(*(words[k:] for k in range(n)), strict=False))
    if not grams:
        return 0.0
    most = max(grams.values())
    if most < 2:
        return 0.0
    longest = max(sum(map(len, gram)) for gram, count in grams.items() if count == most)
    return min(1.0, most * longest / total)


def character_entropy(characters: Characters) -> float:
    """Entropy of the distribution of characters, in bits a character."""
    shares = characters[1] / max(characters[1].sum(), 1)
    return float((shares * np.log2(1 / shares)).sum())


def zlib_ratio(text: str) -> float:
    """Bytes after zlib (level 6) for a byte of UTF-8 before."""
    data = text.encode()
    return len(zlib.compress(data, 6)) / len(data) if data else 0.0
