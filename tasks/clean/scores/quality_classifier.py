"""Quality classifier: good text from poor, by examples; hashed words and pairs of words, logistic regression.

What fastText's classifiers do for data selection (Brown et al. 2020, arXiv:2005.14165, appendix A: hashed features and
logistic regression), with scikit-learn. A model is a safetensors file of weights beside a JSON file; nothing is pickled.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.documents.word_characters import word_runs

FEATURES = 1 << 18
MAX_CHARACTERS = 20_000
"""Of a text: what it is shows at its beginning."""
MIN_EXAMPLES = 10
HELD_OUT_EVERY = 5
"""Every fifth example of a class is kept from training, to measure by."""


@cache
def _vectorizer() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    words = {"tokenizer": _words, "token_pattern": None}
    return HashingVectorizer(n_features=FEATURES, ngram_range=(1, 2), alternate_sign=False, dtype=np.float32, **words)


def _words(text: str) -> list[str]:
    """scikit-learn's own are these, but fall apart at each mark: runs of two characters or more."""
    return [run for run in word_runs(text) if len(run) > 1]


def features(texts: Sequence[str]) -> Any:
    """Sparse float32 [texts, FEATURES]; each row has length 1."""
    return _vectorizer().transform(text[:MAX_CHARACTERS] for text in texts)


def train(positive: Sequence[str], negative: Sequence[str], folder: Path) -> dict[str, Any]:
    """Train and write quality.safetensors and quality.json into `folder`.

    Returns numbers of examples and, on the held-out fifth, accuracy at 0.5 and the area under the ROC curve.

    Raises:
        ValueError: a class has fewer than LEAST_EXAMPLES examples.
    """
    from safetensors.numpy import save_file
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, roc_auc_score

    if min(len(positive), len(negative)) < MIN_EXAMPLES:
        raise ValueError(
            f"{len(positive)} positive and {len(negative)} negative examples; at least {MIN_EXAMPLES} each"
        )
    labels = np.array([1] * len(positive) + [0] * len(negative))
    held_out = np.array([k % HELD_OUT_EVERY == 0 for examples in (positive, negative) for k in range(len(examples))])
    rows = features([*positive, *negative])
    model = LogisticRegression(class_weight="balanced", max_iter=1000, C=10.0).fit(rows[~held_out], labels[~held_out])
    scores = model.predict_proba(rows[held_out])[:, 1]
    measured = {
        "positive": len(positive),
        "negative": len(negative),
        "held_out": int(held_out.sum()),
        "accuracy": round(float(accuracy_score(labels[held_out], scores > 0.5)), 4),
        "roc_auc": round(float(roc_auc_score(labels[held_out], scores)), 4),
    }
    folder.mkdir(parents=True, exist_ok=True)
    weights = {"weights": model.coef_[0].astype(np.float32), "bias": model.intercept_.astype(np.float32)}
    save_file(weights, folder / "quality.safetensors")
    about = {"features": FEATURES, "ngrams": [1, 2], "max_characters": MAX_CHARACTERS, **measured}
    (folder / "quality.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
    return measured


class QualityClassifier:
    """A trained model of a folder."""

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file

        tensors = load_file(folder / "quality.safetensors")
        self.weights, self.bias = tensors["weights"], float(tensors["bias"][0])

    def scores(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [texts]: probability that each is good."""
        logits = np.asarray(features(texts) @ self.weights, np.float64) + self.bias
        probabilities: npt.NDArray[np.float64] = 1 / (1 + np.exp(-logits))
        return probabilities
