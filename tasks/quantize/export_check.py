"""Export check: how near an exported model is to the one it was made from, at prompts and over texts."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.core.execution import load_execution
from tasks.core.progress import Progress
from tasks.model.batches import longest_first
from tasks.model.bits_per_byte import ScoringWindow, document_nats, rolling_windows
from tasks.quantize.comparison_text import ComparisonText
from tasks.tokens.chat_encoder import ChatEncoder

DECIMALS = 5
"""Decimals kept of what is measured, in nats and bits: enough to compare, few enough to repeat with other threads."""
TOP_TOKENS = 20
"""Likeliest tokens of an export that are compared, at each prompt or hidden token."""
Score = Callable[[Sequence[int]], Mapping[int, float]]
Measures = dict[str, float]


class ExportCheck:
    """Prompts and texts, and the model's answers to them, to hold exports against."""

    def __init__(self, model: Any, encoder: ChatEncoder, text: ComparisonText) -> None:
        self.model, self.context = model, int(model.config.max_position_embeddings)
        self.window = self.context - 1  # llama-server wants room for the token that it says last
        self.threads = load_execution().thread_count(1)
        self._encoder = encoder
        self.prompts, self.bytes = text.prompts, text.bytes
        self._texts, self._tokens = text.texts, encoder.texts(text.texts)

    def tokenization_mismatch(self, exported: Any) -> str | None:
        """A text to which llama.cpp gives other tokens than the model's tokenizer; None: there is none among the texts."""
        pairs = zip(self._texts, self._tokens, strict=True)
        return next((text for text, tokens in pairs if exported.tokens(text) != tokens), None)

    def differences(self, exported: Any) -> Measures:
        """At the prompts, of a model that llama.cpp runs: `max_distance` and `mean_distance` of log-probabilities (nats) over
        the export's likeliest tokens, and `kl_divergence` of all next tokens from the model's (nats, the mean).
        """
        return self._differences(
            lambda prompt: exported.next_token_log_probabilities(prompt, self.model.config.vocab_size)
        )

    def differences_of(self, model: Any) -> Measures:
        """The same for a model that transformers runs."""
        return self._differences(lambda prompt: dict(enumerate(_log_probabilities(model, prompt).tolist())))

    def _differences(self, score: Score) -> Measures:
        distances: list[float] = []
        divergence = 0.0
        for prompt in self.prompts:
            expected, found = _log_probabilities(self.model, prompt).tolist(), score(prompt)
            likeliest = sorted(found, key=lambda token: -found[token])[:TOP_TOKENS]
            distances += [abs(found[token] - expected[token]) for token in likeliest]
            divergence += math.fsum(math.exp(value) * (value - found[token]) for token, value in enumerate(expected))
        return {
            "max_distance": _rounded(max(distances)),
            "mean_distance": _rounded(math.fsum(distances) / len(distances)),
            "kl_divergence": _rounded(max(divergence, 0.0) / len(self.prompts)),
        }

    def scores(self, exported: Any) -> Measures:
        """Over the texts, of a model that llama.cpp runs, by the same windows as everywhere here: `bits_per_byte`, and
        `same_token`, the share of tokens at which it holds the same one for the likeliest as the model does.
        """
        nats, likeliest = 0.0, []
        total = sum(len(window.targets) for window in self._windows)
        with Progress(f"score {exported.model.parent.name}", total, "tokens") as progress:
            for window in self._windows:
                sequence = [*window.inputs, window.targets[-1]]
                said = exported.forced(sequence[: -len(window.targets)], window.targets)
                nats -= math.fsum(token.log_probability for token in said)
                likeliest += [token.likeliest for token in said]
                progress.advance(len(window.targets))
        return self._scores(nats, np.array(likeliest))

    def scores_of(self, model: Any) -> Measures:
        """The same for a model that transformers runs."""
        nats = document_nats(model, self._tokens, self._encoder.start, self._encoder.pad, "score", self.window)
        return self._scores(math.fsum(nats), self._expected if model is self.model else self._likeliest(model))

    def _scores(self, nats: float, likeliest: npt.NDArray[np.int64]) -> Measures:
        return {
            "bits_per_byte": _rounded(nats / math.log(2) / self.bytes),
            "same_token": _rounded(float((likeliest == self._expected).mean())),
        }

    @cached_property
    def _windows(self) -> list[ScoringWindow]:
        return [
            window
            for number, tokens in enumerate(self._tokens)
            for window in rolling_windows(number, tokens, self._encoder.start, self.window)
        ]

    @cached_property
    def _expected(self) -> npt.NDArray[np.int64]:
        return self._likeliest(self.model)

    def _likeliest(self, model: Any) -> npt.NDArray[np.int64]:
        """The likeliest token at each place that is scored, int64 [tokens]."""
        import torch

        found: dict[int, list[int]] = {}
        with torch.inference_mode():
            for batch in longest_first(range(len(self._windows)), lambda number: len(self._windows[number].inputs)):
                longest = len(self._windows[batch[0]].inputs)
                inputs = [self._windows[number].inputs for number in batch]
                rows = [[*ids, *[self._encoder.pad] * (longest - len(ids))] for ids in inputs]
                best = model(torch.tensor(rows)).logits.argmax(-1).tolist()
                for number, ids, row in zip(batch, inputs, best, strict=True):
                    found[number] = row[len(ids) - len(self._windows[number].targets) : len(ids)]
        return np.array([token for number in range(len(self._windows)) for token in found[number]])


def _log_probabilities(model: Any, prompt: Sequence[int]) -> Any:
    """Natural log-probabilities of the next token, [vocabulary]."""
    import torch

    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([list(prompt)])).logits[0, -1].float(), -1)


def _rounded(value: float) -> float:
    return round(value, DECIMALS)
