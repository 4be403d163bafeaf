"""Replies of a model, many at a time, greedy or sampled."""

from collections.abc import Sequence
from typing import Any

from tasks.core.progress import Progress
from tasks.evaluate.prompts import PromptBuilder
from tasks.model.generation import Sampling, continue_prompts


class Generator:
    """A model that goes on where a prompt, token ids of at most `max_prompt_tokens`, ends."""

    def __init__(self, model: Any, prompts: PromptBuilder, max_new_tokens: int) -> None:
        self.model, self.prompts, self.encoder = model, prompts, prompts.encoder
        self.max_new_tokens = max_new_tokens
        self.max_prompt_tokens = model.config.max_position_embeddings - max_new_tokens
        self.tokens = 0  # generated so far

    def greedy(self, prompts: Sequence[list[int]], batch: int, what: str) -> list[str]:
        """The most likely reply to each prompt; prompts of like length are answered together."""
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        replies = [""] * len(prompts)
        with Progress(what, total=len(prompts), unit="replies") as progress:
            for first in range(0, len(order), batch):
                chosen = order[first : first + batch]
                for number, reply in zip(chosen, self._generate([prompts[i] for i in chosen]), strict=True):
                    replies[number] = reply
                progress.advance(len(chosen))
        return replies

    def sample(self, prompt: list[int], count: int, sampling: Sampling) -> list[str]:
        """`count` replies to one prompt, drawn from the model's distribution; the same for the same seed."""
        return self._generate([prompt] * count, sampling)

    def _generate(self, prompts: Sequence[list[int]], sampling: Sampling | None = None) -> list[str]:
        pad = self.encoder.pad
        replies = continue_prompts(self.model, prompts, self.max_new_tokens, self.prompts.stop_ids, pad, sampling)
        self.tokens += sum(token != pad for reply in replies for token in reply)
        return [self.encoder.decode(reply).strip() for reply in replies]
