"""The candidate against the champion on the same held-out text: bits per byte, paired, with a bootstrap interval.

Both are asked now, on what this checkout holds out. Where the champion was trained on other documents, some of these may
have been among them, which favours the champion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.evaluate.reply_loss import held_out_conversations, reply_windows, window_scores
from tasks.held_out.held_out_items import validation_documents, within_bytes
from tasks.model.bits_per_byte import document_nats
from tasks.model.load import load_model, prepare_torch
from tasks.model.paired_difference import Difference, paired_difference
from tasks.model.tokenizer_files import has_chat_template
from tasks.tokens.chat_encoder import ChatEncoder

REPLIES, DOCUMENTS = "held-out conversations (their replies)", "held-out documents"


@dataclass(frozen=True)
class Comparison:
    """What the champion (before) and the candidate (after) were asked, and how they differ."""

    text: str
    bits_per_byte: Difference


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
        return Comparison(REPLIES, paired_difference(found[0][kept], found[1][kept])) if kept.any() else None
    texts = [document.text for document in within_bytes(validation_documents(documents), most_bytes)]
    return (
        Comparison(DOCUMENTS, paired_difference(*(_of_documents(folder, texts) for folder in folders)))
        if texts
        else None
    )


def _of_replies(folder: Path, conversations: Sequence[Any]) -> npt.NDArray[np.float64]:
    model, encoder = load_model(folder, "cpu"), ChatEncoder(folder)
    replies = reply_windows(conversations, encoder, model.config.max_position_embeddings)
    return replies.by_conversation(window_scores(model, replies.windows, encoder, f"ask {folder.name}"))


def _of_documents(folder: Path, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    model, encoder = load_model(folder, "cpu"), ChatEncoder(folder)
    nats = document_nats(model, encoder.texts(texts), encoder.start, encoder.pad, f"ask {folder.name}")
    return np.array([nats, [len(text.encode()) for text in texts]], float).T
