"""Preference pairs as token ids: what was asked, the reply that was liked more and the one that was liked less."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.conversations.conversation import Message
from tasks.core.errors import UserError
from tasks.documents.shards import read_shard, shard_paths
from tasks.model.bits_per_byte import ScoringWindow, window_nats
from tasks.tokens.chat_encoder import ChatEncoder

log = logging.getLogger(__name__)
FEWEST_PROMPT_TOKENS = 8
"""Of a prompt that is cut to fit beside a long reply."""


@dataclass(frozen=True)
class Pair:
    """Token ids; both sides end as a turn ends, in however many tokens."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def training_pairs(folder: Path, encoder: ChatEncoder, longest: int) -> list[Pair]:
    """`read_pairs`, of which there must be one.

    Raises:
        UserError: there is none.
    """
    if pairs := read_pairs(folder, encoder, longest):
        return pairs
    raise UserError(
        f"prefer.method: dpo: no preference pair in {folder} to train on. Name a file of records with `chosen` and "
        "`rejected` in instruct.files (docs/conversations.md), or set prefer.method to grpo or null"
    )


def read_pairs(folder: Path, encoder: ChatEncoder, longest: int) -> list[Pair]:
    """The pairs in `folder` by the order of their ids, each of at most `longest` tokens.

    Of a prompt that does not fit, the oldest tokens go; a pair whose reply leaves it no room is left out, and counted in the log:
    a reply cut short would teach not to end.
    """
    columns = ["id", "messages", "rejected"]
    rows = [row for shard in shard_paths(folder) for row in read_shard(shard, columns).to_pylist() if row["rejected"]]
    rows.sort(key=lambda row: row["id"])
    asked = [row["messages"][:-1] for row in rows]
    said = _said([text for row in rows for text in (row["messages"][-1]["content"], row["rejected"])], encoder)
    found, too_long, equal = [], 0, 0
    for number, messages in enumerate(asked):
        chosen, rejected = said[2 * number : 2 * number + 2]
        room = longest - max(len(chosen), len(rejected))
        if chosen == rejected:  # a tokenizer may not know what tells them apart
            equal += 1
        elif room < FEWEST_PROMPT_TOKENS:
            too_long += 1
        else:
            found.append(Pair(encoder.prompt(messages, room), chosen, rejected))
    if too_long or equal:
        log.warning(
            "prefer: of %d pairs in %s, %d are left out for a reply that does not fit the context of %d tokens, and %d whose "
            "sides are equal as tokens",
            *(len(rows), folder, too_long, longest, equal),
        )
    return found


def _said(replies: Sequence[str], encoder: ChatEncoder) -> list[list[int]]:
    """What the assistant says of each reply: its text and the end of the turn."""
    spoken: list[list[Message]] = [[{"role": "assistant", "content": reply}] for reply in replies]
    turns = [turn for (turn,) in encoder.turns(spoken)]
    return [[token for token, says in zip(t.ids, t.assistant_mask, strict=True) if says] for t in turns]


def log_probabilities(model: Any, pairs: Sequence[Pair], pad: int, what: str) -> torch.Tensor:
    """The logarithms of the probability of each pair's sides, float64 [pairs, 2], chosen first."""
    sides = [(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    windows = [ScoringWindow(n, [*prompt, *said][:-1], said) for n, (prompt, said) in enumerate(sides)]
    return -torch.tensor(window_nats(model, windows, len(windows), pad, what), dtype=torch.float64).view(-1, 2)
