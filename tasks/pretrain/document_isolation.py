"""Document isolation: whether a model keeps the documents of a row apart when their positions restart and no attention mask is given.

transformers makes the mask of the positions for Llama, Mistral, Qwen, Gemma, GPT-2 and others, but not for every kind of model.
"""

from typing import Any

import torch

from tasks.core.errors import UserError

TOLERANCE = 1e-3
"""Of the largest logit: what the order of sums may change."""


def require_document_isolation(model: Any, name: str) -> None:
    """Check it by asking for a document alone, and behind another one.

    Raises:
        UserError: a document sees the one before it.
    """
    vocabulary, length = model.get_input_embeddings().weight.shape[0], 8
    tokens = torch.arange(3 * length).mul(7919).remainder(vocabulary)[None]
    model.eval()
    with torch.no_grad():
        alone = model(input_ids=tokens[:, length:], use_cache=False).logits
        positions = torch.cat([torch.arange(length), torch.arange(2 * length)])[None]
        behind = model(input_ids=tokens, position_ids=positions, use_cache=False).logits[:, length:]
    difference = float((alone - behind).abs().max() / alone.abs().max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"{name}: this kind of model ({model.config.model_type}) lets the documents of a row see each other, so it cannot be "
            "trained on packed rows. Name it in finetune.start_from instead"
        )
