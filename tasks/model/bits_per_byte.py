"""Bits per byte: how well a model predicts held-out text, in units that no tokenizer changes; the definition is lm-eval's.

lm-eval scores a document by `loglikelihood_rolling`: the start token leads, windows of the model's context follow one
another, each token is predicted once, and the last window reaches back so that its context is as long as it can be.
"""

import lzma
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tasks.core.progress import Progress
from tasks.model.batches import longest_first


@dataclass(frozen=True)
class ScoringWindow:
    """Tokens to feed and, of the predictions, how many count: the last `predicted`, for `targets`."""

    document: int
    inputs: Sequence[int]
    targets: Sequence[int]


def rolling_windows(document: int, tokens: Sequence[int], start: int, context: int) -> Iterator[ScoringWindow]:
    """The windows of one document; each of its tokens is a target exactly once."""
    stream = [start, *tokens]
    for predicted in range(0, len(tokens), context):
        end = min(predicted + context, len(tokens))
        yield ScoringWindow(document, stream[max(0, end - context) : end], tokens[predicted:end])


def document_nats(
    model: Any, documents: Sequence[Sequence[int]], start: int, pad: int, what: str, context: int | None = None
) -> list[float]:
    """Negative log-likelihood of each document's tokens, in nats, under a causal language model.

    Windows are of `context` tokens, by default the model's whole context.
    """
    context = context or model.config.max_position_embeddings
    windows = [w for number, tokens in enumerate(documents) for w in rolling_windows(number, tokens, start, context)]
    return window_nats(model, windows, len(documents), pad, what)


def window_nats(model: Any, windows: Sequence[ScoringWindow], documents: int, pad: int, what: str) -> list[float]:
    """Negative log-likelihood of the windows' targets, in nats, added up by document, [documents]."""
    nats = [0.0] * documents
    with Progress(what, total=sum(len(window.targets) for window in windows), unit="tokens") as progress:
        for batch in longest_first(windows, lambda window: len(window.inputs)):
            for window, value in zip(batch, _window_nats(model, batch, pad), strict=True):
                nats[window.document] += value
            progress.advance(sum(len(window.targets) for window in batch))
    return nats


def _window_nats(model: Any, batch: Sequence[ScoringWindow], pad: int) -> list[float]:
    longest = len(batch[0].inputs)
    # Padding on the right of a causal model changes nothing to its left, so no mask is needed.
    tokens = torch.tensor([[*window.inputs, *[pad] * (longest - len(window.inputs))] for window in batch])
    targets = torch.full_like(tokens, -100)
    for row, window in enumerate(batch):
        targets[row, len(window.inputs) - len(window.targets) : len(window.inputs)] = torch.tensor(window.targets)
    with torch.inference_mode():
        logits = model(input_ids=tokens.to(model.device), use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.to(model.device).flatten(), reduction="none"
        )
    return [float(row) for row in losses.view(targets.shape).double().sum(1).cpu()]


def likelihood_metrics(nats: float, tokens: int, texts: Sequence[str]) -> dict[str, float | int | None]:
    """What the negative log-likelihood of texts means: bits per byte, and perplexity per token, word and byte.

    Bytes are of UTF-8; words are what white space separates, as lm-eval counts them (`re.split`, empty ends included).
    """
    size = sum(len(text.encode()) for text in texts)
    words = sum(len(re.split(r"\s+", text)) for text in texts)
    return {
        "documents": len(texts),
        "tokens": tokens,
        "bytes": size,
        "bits_per_byte": round(nats / math.log(2) / size, 8),
        "token_perplexity": round(math.exp(nats / tokens), 6),
        "byte_perplexity": round(math.exp(nats / size), 8),
        "word_perplexity": round(math.exp(nats / words), 4) if nats / words < 700 else None,  # e^709 is no float
    }


def xz_bits_per_byte(texts: Sequence[str]) -> float:
    """Bits that `xz -9e` takes for a byte of the texts, compressed as one file with a newline between documents."""
    joined = "\n".join(texts).encode()
    compressed = lzma.compress(joined, preset=9 | lzma.PRESET_EXTREME)
    return round(8 * len(compressed) / sum(len(text.encode()) for text in texts), 8)
