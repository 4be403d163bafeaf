"""Preference pairs as token ids: what was asked, the reply that was liked more and the one that was liked less."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.conversations.conversation import Message
from tasks.core.progress import Progress
from tasks.documents.shards import read_shard, shard_paths
from tasks.tokens.chat_encoder import ChatEncoder

log = logging.getLogger(__name__)
FEWEST_PROMPT_TOKENS = 8
"""Of a prompt that is cut to fit beside a long reply."""
BATCH = 16


@dataclass(frozen=True)
class Pair:
    """Token ids; both sides end as a turn ends, in however many tokens."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


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
    found = torch.zeros(len(pairs), 2, dtype=torch.float64)
    order = sorted(range(len(pairs)), key=lambda number: len(pairs[number].prompt) + len(pairs[number].chosen))
    with Progress(what, total=len(pairs), unit="pairs") as progress:
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            rows = [(pairs[n].prompt, side) for n in chosen for side in (pairs[n].chosen, pairs[n].rejected)]
            found[chosen] = _sequence_logps(model, rows, pad).view(-1, 2)
            progress.advance(len(chosen))
    return found


def _sequence_logps(model: Any, rows: Sequence[tuple[list[int], list[int]]], pad: int) -> torch.Tensor:
    longest = max(len(prompt) + len(reply) for prompt, reply in rows)
    # Padding on the right of a causal model changes nothing to its left, so no mask is needed.
    ids = [[*prompt, *reply, *[pad] * (longest - len(prompt) - len(reply))] for prompt, reply in rows]
    batch = torch.tensor(ids, device=model.device)
    with torch.inference_mode():
        logps = torch.log_softmax(model(input_ids=batch, use_cache=False).logits[:, :-1].float(), -1)
        said = logps.gather(-1, batch[:, 1:, None])[..., 0]
    sums = [said[n, len(p) - 1 : len(p) - 1 + len(r)].double().sum() for n, (p, r) in enumerate(rows)]
    return torch.stack(sums).cpu()
