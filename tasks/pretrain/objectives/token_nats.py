"""Negative log-likelihoods of labels, without ever holding the logits of a whole batch over a large vocabulary."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tasks.architectures.memory import CHUNK_POSITIONS, CHUNKED_FROM, GPU_CHUNK
from tasks.pretrain.data_loader import IGNORE_INDEX

KEPT_SHARE = 1 / 16
"""Share of a GPU's memory that logits may take to be kept for the backward pass."""


def bare_model(model: Any) -> Any:
    """The model inside an engine, or the model itself."""
    return getattr(model, "module", model)


def label_nats(
    model: Any,
    labels: torch.Tensor,
    arguments: dict[str, Any],
    chunked_from: int = CHUNKED_FROM,
    everywhere: bool = False,
) -> tuple[torch.Tensor, Any]:
    """(nats of each label, fp32 [positions], 0 where there is none; the model's output without its logits).

    From `chunked_from` tokens of vocabulary on, the output head is asked a chunk of positions at a time, and again in the
    backward pass, unless a GPU has plenty of room for its answers. It is asked for those positions alone that have a label, or,
    where all but a few have one, `everywhere`: a GPU does not have to wait until they are counted.
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
    score = _compiled_nats() if getattr(model, "is_compiled", False) else _nats
    if everywhere:
        return _chunked(score, head, hidden, flat, bare.config.vocab_size), output
    scored = torch.nonzero(flat != IGNORE_INDEX).squeeze(1)
    if not len(scored):
        return hidden.sum(1).float() * 0.0, output
    nats = torch.zeros(flat.shape, dtype=torch.float32, device=flat.device)
    found = _chunked(score, head, hidden[scored], flat[scored], bare.config.vocab_size)
    return nats.index_copy(0, scored, found), output


Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _chunked(
    score: Score, head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, vocabulary: int
) -> torch.Tensor:
    positions = CHUNK_POSITIONS * (GPU_CHUNK if hidden.is_cuda else 1)
    chunks = zip(torch.split(hidden, positions), torch.split(labels, positions), strict=True)
    if _has_room(hidden, vocabulary):
        return torch.cat([_head_nats(score, head, *chunk) for chunk in chunks])
    return torch.cat([checkpoint(_head_nats, score, head, *chunk, use_reentrant=False) for chunk in chunks])


def _has_room(hidden: torch.Tensor, vocabulary: int) -> bool:
    """Whether the logits of all positions, as the head gives them, are a small part of a GPU's memory."""
    if not hidden.is_cuda:
        return False
    memory = torch.cuda.get_device_properties(hidden.device).total_memory
    return len(hidden) * vocabulary * hidden.element_size() <= memory * KEPT_SHARE


def _head_nats(score: Score, head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return score(head(hidden), labels)


def _nats(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.float(), labels, reduction="none")


@functools.cache
def _compiled_nats() -> Score:
    """The same in two kernels that read the logits as they are, in place of a dozen over fp32 copies of them."""
    return torch.compile(_nats, dynamic=True)


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
