"""How the documents of a packed row are kept apart in a family: what the model is given beside the tokens."""

from typing import Any

import torch

from tasks.architectures.building.attention import varlen_arguments
from tasks.architectures.families.family import Family


def isolating_arguments(
    family: Family, config: Any, position_ids: torch.Tensor, dtype: torch.dtype, starts: torch.Tensor | None = None
) -> dict[str, Any]:
    """Keyword arguments of the model's forward that keep the documents of each row apart.

    `position_ids`, int64 [rows, tokens], restart at 0 with each document. Families of `positions` make their mask of them,
    for which no attention mask may be given; those of `mask` get one of blocks, to add to attention's scores, of `dtype`;
    for those of `rows` each row is one document, and the caller masks its padding. `starts` are the `document_starts` of
    `position_ids`, which flash attention takes in place of a mask.
    """
    arguments: dict[str, Any] = {"use_cache": False} if family.is_causal else {}
    arguments |= varlen_arguments(config, starts)
    if family.first_position:
        arguments["position_ids"] = position_ids + (config.pad_token_id + 1 if family.first_position == "pad" else 0)
    if family.isolation == "mask":
        same = block_mask(position_ids, family.is_causal)
        if family.name != "modernbert":
            arguments["attention_mask"] = additive(same, dtype)
        else:  # whose layers differ in reach
            near = (position_ids[:, :, None] - position_ids[:, None, :]).abs() <= config.sliding_window
            arguments["attention_mask"] = {
                "full_attention": additive(same, dtype),
                "sliding_attention": additive(same & near, dtype),
            }
    return arguments


def block_mask(position_ids: torch.Tensor, causal: bool) -> torch.Tensor:
    """Which tokens each token sees, bool [rows, tokens, tokens]: those of its document, with `causal` none that follow it."""
    documents = (position_ids == 0).cumsum(-1)
    same = documents[:, :, None] == documents[:, None, :]
    return same & (position_ids[:, :, None] >= position_ids[:, None, :]) if causal else same


def additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[rows, 1, tokens, tokens] to add to attention's scores: 0 where `mask` is, else the least number of `dtype`.

    Eager attention and SDPA both take it, unlike one of bool.
    """
    blocked = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)
    return blocked[:, None]
