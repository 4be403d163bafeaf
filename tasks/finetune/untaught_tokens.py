"""What a model that was pretrained on plain text does not know of turns: that they end."""

from typing import Any

import torch

from tasks.tokens.chat_encoder import ChatEncoder


def expect_turn_ends(model: Any, encoder: ChatEncoder) -> None:
    """Let the model expect the end of a turn where it expects that of a document.

    No text holds the token that ends a turn, so all of pretraining lowers its logit, and with a head of its own a model takes
    hundreds of steps of tuning to say it. Its output row becomes that of the token between documents.
    """
    head = model.get_output_embeddings()
    with torch.no_grad():
        for parameter in (head.weight, getattr(head, "bias", None)):
            if parameter is not None:
                parameter[encoder.turn_end] = parameter[encoder.start]
