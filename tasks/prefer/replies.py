"""Replies as token ids, drawn for many prompts at a time, each ended by the first token that ends a turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.model.generation import Sampling, continue_prompts
from tasks.tokens.chat_encoder import ChatEncoder


@dataclass(frozen=True)
class Reply:
    """The tokens of a reply, with the one that ended it if any did, its text, and whether it ended as a turn ends."""

    ids: list[int]
    text: str
    ended: bool


def draw_replies(
    model: Any, encoder: ChatEncoder, prompts: Sequence[list[int]], sampling: Sampling, longest: int
) -> list[Reply]:
    """One reply to each prompt (token ids), of at most `longest` tokens: the same for the same weights, prompts and seed."""
    drawn = continue_prompts(model, prompts, longest, encoder.stop_ids, encoder.pad, sampling)
    return [_reply(row, encoder) for row in drawn]


def _reply(row: list[int], encoder: ChatEncoder) -> Reply:
    end = next((at for at, token in enumerate(row) if token in encoder.stop_ids), None)
    ids = row if end is None else row[: end + 1]
    said = row if end is None else row[:end]
    return Reply(ids, encoder.decode(said).strip(), end is not None and row[end] == encoder.turn_end)
