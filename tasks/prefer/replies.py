"""Replies as token ids, drawn for many prompts at a time, each ended by the first token that ends a turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tasks.tokens.chat_encoder import ChatEncoder


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn: logits divided by `temperature`, from the `top_k` best (0: all), of them the fewest with `top_p`."""

    temperature: float
    top_k: int
    top_p: float
    longest: int


@dataclass(frozen=True)
class Reply:
    """The tokens of a reply, with the one that ended it if any did, its text, and whether it ended as a turn ends."""

    ids: list[int]
    text: str
    ended: bool


def draw_replies(
    model: Any, encoder: ChatEncoder, prompts: Sequence[list[int]], drawing: Drawing, seed: Sequence[int]
) -> list[Reply]:
    """One reply to each prompt (token ids): the same for the same weights, prompts and seed."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[encoder.pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    mixed = sum(number * 1_000_003**place for place, number in enumerate(seed)) % (1 << 63)
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(mixed)
        drawn = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=drawing.longest,
            eos_token_id=encoder.stop_ids,
            pad_token_id=encoder.pad,
            do_sample=True,
            temperature=drawing.temperature,
            top_k=drawing.top_k,
            top_p=drawing.top_p,
            use_cache=True,
        )[:, longest:].tolist()
    return [_reply(row, encoder) for row in drawn]


def _reply(row: list[int], encoder: ChatEncoder) -> Reply:
    end = next((at for at, token in enumerate(row) if token in encoder.stop_ids), None)
    ids = row if end is None else row[: end + 1]
    said = row if end is None else row[:end]
    return Reply(ids, encoder.decode(said).strip(), end is not None and row[end] == encoder.turn_end)
