"""Export check: how near an exported model is to the one it was made from; log-probabilities at prompts, bits per byte."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.core.execution import load_execution
from tasks.core.progress import Progress
from tasks.model.bits_per_byte import document_nats, rolling_windows
from tasks.quantize.comparison_text import ComparisonText
from tasks.tokens.chat_encoder import ChatEncoder

DECIMALS = 5
"""Decimals kept of what is measured, in nats and bits: enough to compare, few enough to repeat with other threads."""
TOP_TOKENS = 20
"""Likeliest tokens of an export that are compared, at each prompt or hidden token."""
Score = Callable[[Sequence[int], int], Mapping[int, float]]


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

    def distance(self, exported: Any, candidates: int = TOP_TOKENS) -> tuple[float, float]:
        """Largest and mean difference of log-probabilities (nats) over the export's likeliest tokens, under llama.cpp."""
        return self._distance(exported.next_token_log_probabilities, candidates)

    def distance_of(self, model: Any, candidates: int = TOP_TOKENS) -> tuple[float, float]:
        """The same for a model that transformers runs."""

        def score(prompt: Sequence[int], count: int) -> Mapping[int, float]:
            best = _log_probabilities(model, prompt).topk(count)
            return dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))

        return self._distance(score, candidates)

    def _distance(self, score: Score, candidates: int) -> tuple[float, float]:
        differences: list[float] = []
        for prompt in self.prompts:
            expected = _log_probabilities(self.model, prompt)
            differences += [abs(value - float(expected[token])) for token, value in score(prompt, candidates).items()]
        return _rounded(max(differences)), _rounded(sum(differences) / len(differences))

    def bits_per_byte(self, exported: Any) -> float:
        """Bits per UTF-8 byte of the texts under llama.cpp, by the same windows as everywhere here."""
        nats = 0.0
        windows = [
            window
            for number, tokens in enumerate(self._tokens)
            for window in rolling_windows(number, tokens, self._encoder.start, self.window)
        ]
        with Progress(
            f"score {exported.model.parent.name}", sum(len(w.targets) for w in windows), "tokens"
        ) as progress:
            for window in windows:
                sequence = [*window.inputs, window.targets[-1]]
                nats -= exported.forced_log_probability(sequence[: -len(window.targets)], window.targets)
                progress.advance(len(window.targets))
        return _rounded(nats / math.log(2) / self.bytes)

    def bits_per_byte_of(self, model: Any) -> float:
        """The same for a model that transformers runs."""
        nats = document_nats(model, self._tokens, self._encoder.start, self._encoder.pad, "score", self.window)
        return _rounded(sum(nats) / math.log(2) / self.bytes)


def _log_probabilities(model: Any, prompt: Sequence[int]) -> Any:
    """Natural log-probabilities of the next token, [vocabulary]."""
    import torch

    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([list(prompt)])).logits[0, -1].float(), -1)


def _rounded(value: float) -> float:
    return round(value, DECIMALS)
