"""Reply loss: how well a model predicts what the assistant says, given the conversation before it; what tuning is for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from tasks.conversations.conversation import Message
from tasks.core.progress import Progress
from tasks.documents.shards import read_shard, shard_paths
from tasks.model.batches import longest_first
from tasks.tokens.chat_encoder import ChatEncoder, EncodedConversation
from tasks.tokens.dialogue_windows import DialogueWindows

Score = dict[str, float | int]


@dataclass(frozen=True)
class WindowScore:
    """What a model finds in a window: nats of all that the assistant says, nats of its text alone, and how much of each."""

    nats: float
    text_nats: float
    tokens: int
    bytes: int


@dataclass(frozen=True)
class ReplyWindows:
    """Conversations cut to windows, and of each window the number of its conversation."""

    windows: list[EncodedConversation]
    owners: list[int]
    conversations: int

    def by_conversation(self, scores: Sequence[WindowScore]) -> npt.NDArray[np.float64]:
        """Scores of the windows added up, float64 [conversations, (nats of text, bytes)]."""
        table = np.zeros((self.conversations, 2))
        for owner, score in zip(self.owners, scores, strict=True):
            table[owner] += score.text_nats, score.bytes
        return table


def held_out_replies(folder: Path, encoder: ChatEncoder, context: int, most_bytes: int) -> ReplyWindows:
    """The held-out conversations in `folder` as windows of at most `context` tokens."""
    return reply_windows(held_out_conversations(folder, most_bytes), encoder, context)


def reply_windows(conversations: Sequence[Sequence[Message]], encoder: ChatEncoder, context: int) -> ReplyWindows:
    """Conversations as windows of at most `context` tokens, each with something that the assistant says."""
    dialogues = DialogueWindows()
    owners: list[int] = []
    for number, messages in enumerate(conversations):
        dialogues.add(messages, encoder.turns([messages])[0], context, encoder)
        owners += [number] * (len(dialogues.windows) - len(owners))
    return ReplyWindows(dialogues.windows, owners, len(conversations))


def held_out_conversations(folder: Path, most_bytes: int) -> list[list[Message]]:
    """The messages of the held-out conversations in `folder`, in the order of their ids: as many as have at most `most_bytes` of
    the assistant's UTF-8 text together, and one at least.
    """
    rows = []
    for shard in shard_paths(folder):
        table = read_shard(shard, ["id", "kind", "messages"])
        rows += table.filter(pc.equal(table["kind"], "conversation")).to_pylist()
    kept: list[list[Message]] = []
    size = 0
    for row in sorted(rows, key=lambda row: row["id"]):
        size += sum(len(turn["content"].encode()) for turn in row["messages"] if turn["role"] == "assistant")
        if size > most_bytes and kept:
            break
        kept.append(row["messages"])
    return kept


def reply_score(scores: Sequence[WindowScore]) -> Score:
    """Over what the assistant says in windows: `loss` (nats a token, the end of each turn included, as tuning has it),
    `bits_per_byte` (of its text alone, so that no control token counts), `tokens` and `bytes`.

    A base model has never seen the end of a turn; that it does not expect one tells nothing about its text.
    """
    tokens, size = sum(score.tokens for score in scores), sum(score.bytes for score in scores)
    text_nats = math.fsum(score.text_nats for score in scores)
    return {
        "loss": round(math.fsum(score.nats for score in scores) / tokens, 6),
        "bits_per_byte": round(text_nats / math.log(2) / max(size, 1), 6),
        "tokens": tokens,
        "bytes": size,
    }


def window_scores(
    model: Any, windows: Sequence[EncodedConversation], encoder: ChatEncoder, what: str
) -> list[WindowScore]:
    """The score of each of `windows`."""
    scores: dict[int, WindowScore] = {}
    with Progress(what, total=sum(len(window.ids) for window in windows), unit="tokens") as progress:
        for batch in longest_first(range(len(windows)), lambda number: len(windows[number].ids)):
            together = [windows[number] for number in batch]
            for number, window, losses in zip(batch, together, _losses(model, together, encoder.pad), strict=True):
                said = [at for at, own in enumerate(window.assistant_mask) if own]
                text = [at for at in said if window.ids[at] != encoder.turn_end]
                scores[number] = WindowScore(
                    math.fsum(losses[at - 1] for at in said),
                    math.fsum(losses[at - 1] for at in text),
                    len(said),
                    len(encoder.decode([window.ids[at] for at in text]).encode()),
                )
            progress.advance(sum(len(window.ids) for window in together))
    return [scores[number] for number in range(len(windows))]


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
