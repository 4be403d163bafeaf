"""Negative log-likelihoods of labels, without ever holding the logits of a whole batch over a large vocabulary."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tasks.pretrain.data_loader import IGNORE_INDEX

CHUNKED_FROM = 32_000
"""Vocabulary from which on logits are computed in chunks: below, they are small beside what the blocks keep."""
CHUNK_POSITIONS = 1024
"""Positions whose logits are held at a time: 131 MB in fp32 over 32,000 tokens."""


def bare_model(model: Any) -> Any:
    """The model inside an engine, or the model itself."""
    return getattr(model, "module", model)


def label_nats(
    model: Any, labels: torch.Tensor, arguments: dict[str, Any], chunked_from: int = CHUNKED_FROM
) -> tuple[torch.Tensor, Any]:
    """(nats of each label, fp32 [positions], 0 where there is none; the model's output without its logits).

    From `chunked_from` tokens of vocabulary on, the output head is asked for those positions alone that have a label, a chunk at
    a time, and again in the backward pass.
    """
    bare = bare_model(model)
    flat = labels.flatten()
    if bare.config.vocab_size < chunked_from:
        output = model(**arguments)
        return functional.cross_entropy(output.logits.flatten(0, 1).float(), flat, reduction="none"), output
    head = bare.get_output_embeddings()
    with head_passed_over(bare):
        output = model(**arguments)
    hidden = output.logits.flatten(0, 1)
    scored = torch.nonzero(flat != IGNORE_INDEX).squeeze(1)
    if not len(scored):
        return hidden.sum(1).float() * 0.0, output
    parts = [
        checkpoint(_head_nats, head, hidden[places], flat[places], use_reentrant=False)
        for places in torch.split(scored, CHUNK_POSITIONS)
    ]
    nats = torch.zeros(flat.shape, dtype=torch.float32, device=flat.device)
    return nats.index_copy(0, scored, torch.cat(parts)), output


def _head_nats(head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(head(hidden).float(), labels, reduction="none")


@contextmanager
def head_passed_over(model: Any) -> Iterator[None]:
    """Within, the model's `logits` are what its output head would be given."""
    head = model.get_output_embeddings()
    bias = getattr(model, "final_logits_bias", None)  # BART's, which is always 0 and as wide as the vocabulary
    head.forward = _identity
    if bias is not None:
        model.final_logits_bias = bias[:, :1]
    try:
        yield
    finally:
        del head.forward
        if bias is not None:
            model.final_logits_bias = bias


def _identity(hidden: torch.Tensor) -> torch.Tensor:
    return hidden
