"""Replies of a model, many at a time, greedy or sampled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tasks.core.progress import Progress
from tasks.evaluate.prompts import PromptBuilder


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: logits divided by `temperature`, the `top_k` best, of them the fewest with `top_p`."""

    temperature: float
    top_k: int
    top_p: float
    seed: int


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
        with torch.random.fork_rng(devices=[self.model.device] if self.model.device.type == "cuda" else []):
            torch.manual_seed(sampling.seed)
            return self._generate([prompt] * count, sampling)

    def _generate(self, prompts: Sequence[list[int]], sampling: Sampling | None = None) -> list[str]:
        longest, pad = max(len(prompt) for prompt in prompts), self.encoder.pad
        tokens = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        drawn: dict[str, Any] = {"do_sample": False}
        if sampling:
            drawn = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
            }
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=tokens.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                max_new_tokens=self.max_new_tokens,
                eos_token_id=self.prompts.stop_ids,
                pad_token_id=pad,
                **drawn,
            )
        replies = output[:, longest:].tolist()
        self.tokens += sum(token != pad for reply in replies for token in reply)
        return [self.encoder.decode(reply).strip() for reply in replies]
