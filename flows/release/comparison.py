"""The candidate against the champion on the same held-out text: bits per byte, paired, with a bootstrap interval.

Both are asked now, on what this checkout holds out. Where the champion was trained on other documents, some of these may
have been among them, which favours the champion.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.evaluate.reply_loss import held_out_conversations, window_scores
from tasks.held_out.held_out_items import validation_documents, within_bytes
from tasks.model.bits_per_byte import document_nats
from tasks.model.load import load_model, prepare_torch
from tasks.model.tokenizer_files import has_chat_template
from tasks.tokens.chat_encoder import ChatEncoder
from tasks.tokens.dialogue_windows import DialogueWindows

RESAMPLES = 2000
CONFIDENCE = 0.95
REPLIES, DOCUMENTS = "held-out conversations (their replies)", "held-out documents"


@dataclass(frozen=True)
class Comparison:
    """Bits per byte of both over `items` (conversations or documents), and the candidate's less the champion's with its
    interval: below 0 the candidate predicts better.
    """

    text: str
    items: int
    champion: float
    candidate: float
    difference: float
    low: float
    high: float


def compare(champion: Path, candidate: Path, held_out: Path, documents: Path, most_bytes: int) -> Comparison | None:
    """Compare two model folders: where both chat, by what the assistant says in the conversations in `held_out`, else, and
    where there are none, by the validation documents in `documents`. None: nothing is held out.
    """
    prepare_torch()
    folders = (champion, candidate)
    conversations = held_out_conversations(held_out, most_bytes) if all(map(has_chat_template, folders)) else []
    if conversations:
        found = [_of_replies(folder, conversations) for folder in folders]
        kept = (found[0][:, 1] > 0) & (found[1][:, 1] > 0)  # both have read something of it
        return paired(REPLIES, found[0][kept], found[1][kept]) if kept.any() else None
    texts = [document.text for document in within_bytes(validation_documents(documents), most_bytes)]
    return paired(DOCUMENTS, *(_of_documents(folder, texts) for folder in folders)) if texts else None


def paired(text: str, champion: npt.NDArray[np.float64], candidate: npt.NDArray[np.float64]) -> Comparison:
    """The comparison of two tables [items, (nats, bytes)] of the same items, which are drawn again with their order kept."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(champion), (RESAMPLES, len(champion)))
    differences = _bits(candidate[drawn]) - _bits(champion[drawn])
    low, high = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    before, after = float(_bits(champion)), float(_bits(candidate))
    return Comparison(text, len(champion), *(round(float(x), 6) for x in (before, after, after - before, low, high)))


def _bits(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bits per byte over the items of [..., items, (nats, bytes)]."""
    sums = table.sum(-2)
    bits: npt.NDArray[np.float64] = sums[..., 0] / math.log(2) / sums[..., 1]
    return bits


def _of_replies(folder: Path, conversations: Sequence[Any]) -> npt.NDArray[np.float64]:
    model, encoder = load_model(folder, "cpu"), ChatEncoder(folder)
    dialogues = DialogueWindows()
    owners: list[int] = []
    for number, messages in enumerate(conversations):
        dialogues.add(messages, encoder.turns([messages])[0], model.config.max_position_embeddings, encoder)
        owners += [number] * (len(dialogues.windows) - len(owners))
    table = np.zeros((len(conversations), 2))
    for number, score in zip(
        owners, window_scores(model, dialogues.windows, encoder, f"ask {folder.name}"), strict=True
    ):
        table[number] += score.text_nats, score.bytes
    return table


def _of_documents(folder: Path, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    model, encoder = load_model(folder, "cpu"), ChatEncoder(folder)
    nats = document_nats(model, encoder.texts(texts), encoder.start, encoder.pad, f"ask {folder.name}")
    return np.array([nats, [len(text.encode()) for text in texts]], float).T
