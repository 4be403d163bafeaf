"""Perplexity filter: how surprising a text is to a word trigram model of reference text.

Absolute discounting with interpolation: Ney, Essen and Kneser 1994, "On structuring probabilistic dependences in
stochastic language modelling", with one discount. Selecting text by an n-gram model's perplexity: Wenzek et al. 2020,
CCNet (arXiv:1911.00359). A model is sorted arrays of counted n-grams in a safetensors file, and its words in JSON.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.documents.word_characters import WORD_CLASS

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
TOKEN = re.compile(rf"[{WORD_CLASS}]+|[^{WORD_CLASS}\s]")
VOCABULARY = 50_000
DISCOUNT = 0.75
ORDER = 3
MAX_WORDS = 5000
"""Of a text: enough for a stable mean."""
UNKNOWN = 0


def tokenize(text: str) -> list[str]:
    """Lower-case words and signs, the first MAX_WORDS."""
    return TOKEN.findall(text[: 20 * MAX_WORDS].lower())[:MAX_WORDS]


class TrigramModel:
    """Counts of 1-, 2- and 3-grams of word ids; an n-gram's key is its ids as digits to the base of the vocabulary."""

    def __init__(self, words: list[str], grams: dict[str, Int64]) -> None:
        self.ids = {word: index + 1 for index, word in enumerate(words)}
        self.words, self.grams = words, grams
        self.vocabulary_size = len(words) + 1
        self.contexts: dict[int, tuple[Int64, Int64, Int64]] = {}
        for order in range(2, ORDER + 1):
            before, first = np.unique(grams[f"keys{order}"] // self.vocabulary_size, return_index=True)
            total = np.add.reduceat(grams[f"counts{order}"], first) if len(first) else first
            followers = np.diff(np.append(first, len(grams[f"keys{order}"])))
            self.contexts[order] = before, total, followers

    @classmethod
    def train(cls, texts: Iterable[str]) -> "TrigramModel":
        """Count the n-grams of texts; words beyond the VOCABULARY commonest are one unknown word."""
        documents = [tokenize(text) for text in texts]
        counted = Counter(word for document in documents for word in document)
        words = [word for word, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[: VOCABULARY - 1]]
        model = cls(
            words, {f"{kind}{order}": np.zeros(0, np.int64) for kind in ("keys", "counts") for order in (1, 2, 3)}
        )
        sequences = [model._ids(document) for document in documents]
        ngrams = {}
        for order in range(1, ORDER + 1):
            keys = np.concatenate([model._keys(ids, order) for ids in sequences] or [np.zeros(0, np.int64)])
            ngrams[f"keys{order}"], ngrams[f"counts{order}"] = np.unique(keys, return_counts=True)
        return cls(words, ngrams)

    def _ids(self, words: list[str]) -> Int64:
        return np.array([self.ids.get(word, UNKNOWN) for word in words], np.int64)

    def _keys(self, ids: Int64, order: int) -> Int64:
        keys = np.zeros(max(0, len(ids) - order + 1), np.int64)
        for place in range(order):
            keys = keys * self.vocabulary_size + ids[place : place + len(keys)]
        return keys

    def probabilities(self, ids: Int64) -> Float64:
        """float64 [words]: each word's probability after the two before it."""
        total = int(self.grams["counts1"].sum())
        found = (_lookup(self.grams["keys1"], self.grams["counts1"], ids) + 1) / (
            total + self.vocabulary_size
        )  # none is impossible
        for order in range(2, ORDER + 1):
            keys = self._keys(ids, order)
            if not len(keys):
                break
            before, totals, followers = self.contexts[order]
            count = _lookup(self.grams[f"keys{order}"], self.grams[f"counts{order}"], keys)
            context = _lookup(before, totals, keys // self.vocabulary_size)
            kinds = _lookup(before, followers, keys // self.vocabulary_size)
            lower = found[order - 1 :]
            known = np.maximum(context, 1)
            own = (np.maximum(count - DISCOUNT, 0) + DISCOUNT * kinds * lower) / known
            found[order - 1 :] = np.where(context > 0, own, lower)
        return found

    def perplexity(self, text: str) -> float:
        """The inverse of the geometric mean of the words' probabilities; 1 for a text without words."""
        ids = self._ids(tokenize(text))
        return float(np.exp(-np.log(self.probabilities(ids)).mean())) if len(ids) else 1.0

    def save(self, folder: Path) -> None:
        """Write perplexity.safetensors and perplexity.json."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.grams, folder / "perplexity.safetensors")
        about = {"discount": DISCOUNT, "order": ORDER, "words": self.words}
        (folder / "perplexity.json").write_text(json.dumps(about, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TrigramModel":
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        return cls(
            json.loads((folder / "perplexity.json").read_text("utf-8"))["words"],
            load_file(folder / "perplexity.safetensors"),
        )


def _lookup(keys: Int64, values: Int64, wanted: Int64) -> Int64:
    """The value of each wanted key; 0 where it is not there."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
