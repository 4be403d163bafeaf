"""Continuations of many prompts at a time, the most likely or drawn."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: logits divided by `temperature`, of the `top_k` best (0: all) the fewest with `top_p`."""

    temperature: float
    top_k: int
    top_p: float
    seed: int


def mixed_seed(*parts: int | str) -> int:
    """A seed of 56 bits from all of `parts`: like parts, as the steps of a run are, give unlike seeds."""
    return int.from_bytes(hashlib.blake2b(" ".join(map(str, parts)).encode(), digest_size=7).digest(), "big")


def continue_prompts(
    model: Any,
    prompts: Sequence[list[int]],
    longest: int,
    stop_ids: Sequence[int],
    pad: int,
    sampling: Sampling | None = None,
) -> list[list[int]]:
    """What `model` says after each of `prompts` (token ids), at most `longest` tokens: greedily, or as `sampling` draws them.

    Rows that ended, with one of `stop_ids`, before the longest did are filled with `pad`. The same weights, prompts and seed give
    the same tokens; the process's own random numbers stay where they were.
    """
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    drawn: dict[str, Any] = {"do_sample": False}
    if sampling:
        drawn = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
        }
    if getattr(model.config, "output_router_logits", False):
        # For the loss that balances experts, which is of training, and whose mask does not fit one token at a time.
        drawn["output_router_logits"] = False
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode():
        if sampling:
            torch.manual_seed(sampling.seed)
        output = model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=longest,
            eos_token_id=list(stop_ids),
            pad_token_id=pad,
            use_cache=True,
            **drawn,
        )
    rows: list[list[int]] = output[:, width:].tolist()
    return rows
