"""Classes of characters for the published rules: a table of bits by code point.

Marks and joiners belong to words as letters without case do. spaCy, whose tokenizer the rules were made with, has the
same for whole blocks (Devanagari, Bengali, Tamil, Telugu, Hebrew, Arabic); here it holds for every script.
"""

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

from tasks.clean.rules import punctuation as p
from tasks.documents.word_characters import JOINERS
from tasks.similarity.shingles import LAST_CODE_POINT

UInt16 = npt.NDArray[np.uint16]

SPACE, ALPHA, LOWER, UPPER, DIGIT, PREFIX, SUFFIX, QUOTE = (1 << bit for bit in range(8))
HYPHEN, ICON, SYMBOL, TERMINAL, PUNCTUATION = (1 << bit for bit in range(8, 13))


@cache
def character_classes() -> UInt16:
    """uint16 [LAST_CODE_POINT + 1]: bits of each code point; the last stands for all beyond, which have none."""
    bits = np.zeros(LAST_CODE_POINT + 1, np.uint16)
    sets = ((p.PREFIXES, PREFIX), (p.SUFFIXES, SUFFIX), (p.QUOTES, QUOTE), (p.HYPHENS, HYPHEN))
    for characters, bit in (*sets, (p.SYMBOLS, SYMBOL), (p.TERMINAL, TERMINAL)):
        bits[[ord(character) for character in characters]] |= bit
    for code in range(LAST_CODE_POINT):
        character = chr(code)
        category = unicodedata.category(character)
        if character.isalpha():
            bits[code] |= ALPHA | (0 if character.isupper() else LOWER) | (0 if character.islower() else UPPER)
        elif category[0] == "M" or character in JOINERS:
            bits[code] |= ALPHA | LOWER | UPPER
        elif character.isspace():
            bits[code] |= SPACE
        elif category == "So" and character != "°":
            bits[code] |= ICON | PREFIX | SUFFIX
        elif category[0] == "P":
            bits[code] |= PUNCTUATION
    bits[ord("0") : ord("9") + 1] |= DIGIT
    return bits
