"""What counts as part of a word, for every measure of text: one notion, after Unicode Standard Annex 29, "Word boundaries".

Letters, digits and marks, for in most scripts of South and Southeast Asia the vowels of a word are marks (general category
M), as are the points of Hebrew and Arabic; and the two joiners, which spell words in Persian, Hindi or Malayalam. As in
the annex (ExtendNumLet) an underscore holds a word together; a measure of symbols counts it as one.
"""

import re
import unicodedata
from itertools import chain, groupby

JOINERS = "\u200c\u200d"
INVISIBLE = frozenset(
    map(chr, (0x34F, 0x180B, 0x180C, 0x180D, 0x180F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
) | {*JOINERS}
"""Joiners and variation selectors: they only say how a neighbour is drawn."""
WITH_MARKS = (range(0x20000), range(0xE0000, 0xE0200))
"""Planes that have marks."""


def is_word_character(character: str) -> bool:
    """Whether one character is a letter, a digit, a mark or a joiner."""
    return character.isalnum() or unicodedata.category(character)[0] == "M" or character in JOINERS


def _mark_ranges() -> str:
    """The marks of Unicode as the inside of a character class."""
    marks = [code for code in chain(*WITH_MARKS) if unicodedata.category(chr(code))[0] == "M"]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(marks), key=lambda pair: pair[1] - pair[0])]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)


WORD_CLASS = rf"\w{_mark_ranges()}{JOINERS}"
"""The inside of a character class of `re`, for all word characters and the underscore."""
SPACELESS = (  # scripts written without spaces between words
    *((0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800)),  # Thai and Lao; Burmese; Khmer
    *((0x3040, 0x3100), (0x31F0, 0x3200)),  # Kana
    *((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x323B0)),  # Han
)
"""Ranges of code points, [first, end)."""
SPACELESS_CLASS = "".join(f"{chr(first)}-{chr(end - 1)}" for first, end in SPACELESS)
ASCII_RUN, RUN = re.compile(r"\w+"), re.compile(f"[{WORD_CLASS}]+")  # the same in ASCII, the first four times as fast
SPACELESS_WORD = re.compile(f"[{SPACELESS_CLASS}]|[^{SPACELESS_CLASS}]+")
NO_LETTERS = re.compile(rf"(?:[^{WORD_CLASS}]|[\d_])+")
NO_ASCII_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
SPACES = bytes.maketrans(NO_ASCII_LETTERS, b" " * len(NO_ASCII_LETTERS))


def word_runs(text: str) -> list[str]:
    """The runs of word characters and underscores of a text."""
    return (ASCII_RUN if text.isascii() else RUN).findall(text)


def words(text: str) -> list[str]:
    """The words of a text, as shingles have them: runs of word characters; in scripts without spaces each character."""
    if text.isascii():
        return ASCII_RUN.findall(text)
    return [word for run in RUN.findall(text) for word in SPACELESS_WORD.findall(run)]


def letters_only(text: str) -> str:
    """The letters and marks of a text, a space for whatever stands between."""
    if text.isascii():
        return b" ".join(text.encode().translate(SPACES).split()).decode()
    return NO_LETTERS.sub(" ", text).strip()


def has_only_letters(word: str) -> bool:
    """Whether there is nothing but letters and their marks."""
    return word.isalpha() or (not word.isascii() and NO_LETTERS.search(word) is None)
