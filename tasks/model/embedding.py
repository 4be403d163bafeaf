"""Encoders as embedders, and how well a linear classifier reads their embeddings (a linear probe)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Float32 = npt.NDArray[np.float32]


def embed(model: Any, texts: Sequence[Sequence[int]], pad: int, batch_rows: int = 32) -> Float32:
    """The mean of the last hidden states of each text's tokens, fp32 [texts, hidden].

    `model` is any model of transformers; of an encoder-decoder the encoder is asked. Texts are token ids, none empty, as they
    were trained on: begun by the document's start.
    """
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    device = next(model.parameters()).device
    model.eval()
    found = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for first in range(0, len(order), batch_rows):
        chosen = order[first : first + batch_rows]
        longest = len(texts[chosen[-1]])
        tokens = torch.tensor([[*texts[number], *[pad] * (longest - len(texts[number]))] for number in chosen])
        mask = torch.tensor([[1] * len(texts[number]) + [0] * (longest - len(texts[number])) for number in chosen])
        with torch.inference_mode():
            hidden = (
                encoder(input_ids=tokens.to(device), attention_mask=mask.to(device)).last_hidden_state.float().cpu()
            )
        weights = (mask / mask.sum(1, keepdim=True))[:, :, None]
        found[chosen] = (hidden * weights).sum(1).numpy()
    return found


def linear_probe(
    embeddings: Float32, classes: Sequence[str], test_share: float = 0.25, seed: int = 0
) -> dict[str, float]:
    """Accuracy of a logistic regression over standardised embeddings on texts held out at random, and of the most frequent class.

    Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes" (arXiv:1610.01644).

    Raises:
        ValueError: a class has fewer than two texts.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = np.asarray(classes)
    train, test, train_classes, test_classes = train_test_split(
        embeddings, known, test_size=test_share, random_state=seed, stratify=known
    )
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, train_classes)
    names, counts = np.unique(train_classes, return_counts=True)
    return {
        "accuracy": float(np.mean(probe.predict(test) == test_classes)),
        "majority": float(np.mean(test_classes == names[counts.argmax()])),
    }
