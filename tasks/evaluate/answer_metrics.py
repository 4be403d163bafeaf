"""Answer metrics: how well answers match what was expected; SQuAD's exact match and F1, and ROUGE-L."""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.documents.word_characters import word_runs
from tasks.model.paired_difference import standard_error

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(answer: str) -> str:
    """SQuAD's normal form (Rajpurkar et al. 2016, the official script): lower case; no punctuation, articles, extra space.

    Punctuation is removed, not replaced by a space: `don't` becomes `dont`.
    """
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(answer: str, expected: str) -> float:
    """1 where the normal forms are equal, else 0."""
    return float(normalize_answer(answer) == normalize_answer(expected))


def f1(answer: str, expected: str) -> float:
    """Harmonic mean of precision and recall over the words of the normal forms, counted as bags."""
    said, wanted = normalize_answer(answer).split(), normalize_answer(expected).split()
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))


class _WordTokenizer:
    """rouge-score's tokenizer, for any script: lower-case words without underscores, those above 3 letters stemmed if asked."""

    def __init__(self, stemmer: bool) -> None:
        from nltk.stem.porter import PorterStemmer

        self._stem = PorterStemmer().stem if stemmer else str

    def tokenize(self, text: str) -> list[str]:
        words = word_runs(text.lower().replace("_", " "))
        return [self._stem(word) if len(word) > 3 else word for word in words]


def max_over_answers(score: Callable[[str, str], float], answer: str, expected: Sequence[str]) -> float:
    """The score against that of the right answers which it is nearest to, as the official script takes it."""
    return max(score(answer, right) for right in expected)


class RougeL:
    """F-measure of the longest common subsequence of words (Lin 2004), as the package rouge-score computes it.

    Of text beyond ASCII its own tokenizer keeps the letters a to z alone; here words are words in every script.
    """

    def __init__(self, stemmer: bool) -> None:
        from rouge_score.rouge_scorer import RougeScorer

        self._scorer = RougeScorer(["rougeL"], tokenizer=_WordTokenizer(stemmer))

    def __call__(self, answer: str, expected: str) -> float:
        return float(self._scorer.score(expected, answer)["rougeL"].fmeasure)


def means(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float | None]:
    """Of each of `names` the mean over `rows`, and under `<name>_stderr`, as lm-eval calls it, its standard error."""
    found: dict[str, float | None] = {}
    for name in names:
        values = [float(row[name]) for row in rows]
        found[name] = round(sum(values) / len(values), 6)
        found[f"{name}_stderr"] = standard_error(values)
    return found
