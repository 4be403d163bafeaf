"""Reply loss: how well a model predicts what the assistant says, given the conversation before it; what tuning is for."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch

from tasks.core.progress import Progress
from tasks.documents.shards import read_shard, shard_paths
from tasks.model.batches import longest_first
from tasks.tokens.chat_encoder import ChatEncoder, EncodedConversation
from tasks.tokens.dialogue_windows import DialogueWindows

Score = dict[str, float | int]


def held_out_replies(folder: Path, encoder: ChatEncoder, context: int, most_bytes: int) -> DialogueWindows:
    """The held-out conversations in `folder` as windows of at most `context` tokens, in the order of their ids.

    As many as have at most `most_bytes` of the assistant's UTF-8 text together, and one at least.
    """
    rows = []
    for shard in shard_paths(folder):
        table = read_shard(shard, ["id", "kind", "messages"])
        rows += table.filter(pc.equal(table["kind"], "conversation")).to_pylist()
    dialogues, size = DialogueWindows(), 0
    for row in sorted(rows, key=lambda row: row["id"]):
        size += sum(len(turn["content"].encode()) for turn in row["messages"] if turn["role"] == "assistant")
        if size > most_bytes and dialogues.windows:
            break
        dialogues.add(row["messages"], encoder.turns([row["messages"]])[0], context, encoder)
    return dialogues


def reply_score(model: Any, windows: Sequence[EncodedConversation], encoder: ChatEncoder, what: str) -> Score:
    """Over what the assistant says in `windows`: `loss` (nats a token, the end of each turn included, as tuning has it),
    `bits_per_byte` (of its text alone, so that no control token counts), `tokens` and `bytes`.

    A base model has never seen the end of a turn; that it does not expect one tells nothing about its text.
    """
    nats = text_nats = 0.0
    tokens = size = 0
    with Progress(what, total=sum(len(window.ids) for window in windows), unit="tokens") as progress:
        for batch in longest_first(windows, lambda window: len(window.ids)):
            for window, losses in zip(batch, _losses(model, batch, encoder.pad), strict=True):
                said = [at for at, own in enumerate(window.assistant_mask) if own]
                text = [at for at in said if window.ids[at] != encoder.turn_end]
                nats += math.fsum(losses[at - 1] for at in said)
                text_nats += math.fsum(losses[at - 1] for at in text)
                tokens += len(said)
                size += len(encoder.decode([window.ids[at] for at in text]).encode())
            progress.advance(sum(len(window.ids) for window in batch))
    return {
        "loss": round(nats / tokens, 6),
        "bits_per_byte": round(text_nats / math.log(2) / max(size, 1), 6),
        "tokens": tokens,
        "bytes": size,
    }


def _losses(model: Any, batch: Sequence[EncodedConversation], pad: int) -> list[list[float]]:
    """Of each window, the negative log-likelihood (nats) of its second token, its third, ..."""
    longest = len(batch[0].ids)
    # Padding on the right of a causal model changes nothing to its left, so no mask is needed.
    ids = torch.tensor([[*window.ids, *[pad] * (longest - len(window.ids))] for window in batch], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    rows: list[list[float]] = losses.view(len(batch), longest - 1).double().cpu().tolist()
    return rows
