"""Negative log-likelihoods of labels, and z-loss, without ever holding the logits of a whole batch over a large vocabulary."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tasks.architectures.memory import CHUNK_POSITIONS, CHUNKED_FROM, GPU_CHUNK
from tasks.pretrain.data_loader import IGNORE_INDEX
from tasks.pretrain.objectives.objective import Z_LOSS, Extras

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
    z_loss: bool = False,
    everywhere: bool = False,
) -> tuple[torch.Tensor, Extras, Any]:
    """(nats of each label, fp32 [positions], 0 where there is none; extras; the model's output without its logits).

    From `chunked_from` tokens of vocabulary on, the output head is asked a chunk of positions at a time, and again in the
    backward pass, unless a GPU has plenty of room for its answers. It is asked for those positions alone that have a label, or,
    where all but a few have one, `everywhere`: a GPU does not have to wait until they are counted.

    Extras: `z_loss` where it is wanted.
    """
    bare = bare_model(model)
    flat = labels.flatten()
    if bare.config.vocab_size < chunked_from:
        output = model(**arguments)
        nats, normalisers = logit_nats(output.logits.flatten(0, 1), flat, z_loss)
        return nats, _extras(normalisers), output
    head = bare.get_output_embeddings()
    with head_passed_over(bare):
        output = model(**arguments)
    hidden = output.logits.flatten(0, 1)
    score = _compiled_nats() if getattr(model, "is_compiled", False) else logit_nats
    if everywhere:
        nats, normalisers = _chunked(score, head, hidden, flat, bare.config.vocab_size, z_loss)
        return nats, _extras(normalisers), output
    scored = torch.nonzero(flat != IGNORE_INDEX).squeeze(1)
    if not len(scored):
        nothing = hidden.sum(1).float() * 0.0
        return nothing, _extras(nothing if z_loss else None), output
    nats = torch.zeros(flat.shape, dtype=torch.float32, device=flat.device)
    found, normalisers = _chunked(score, head, hidden[scored], flat[scored], bare.config.vocab_size, z_loss)
    return nats.index_copy(0, scored, found), _extras(normalisers), output


Nats = tuple[torch.Tensor, torch.Tensor | None]
"""Of labels, and the log of the normaliser of each softmax where it is wanted."""
Score = Callable[[torch.Tensor, torch.Tensor, bool], Nats]


def _chunked(
    score: Score, head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, vocabulary: int, z_loss: bool
) -> Nats:
    positions = CHUNK_POSITIONS * (GPU_CHUNK if hidden.is_cuda else 1)
    chunks = zip(torch.split(hidden, positions), torch.split(labels, positions), strict=True)
    if _has_room(hidden, vocabulary):
        parts = [_head_nats(score, head, *chunk, z_loss) for chunk in chunks]
    else:
        parts = [checkpoint(_head_nats, score, head, *chunk, z_loss, use_reentrant=False) for chunk in chunks]
    normalisers = [part for _, part in parts if part is not None]
    return torch.cat([part for part, _ in parts]), torch.cat(normalisers) if z_loss else None


def _has_room(hidden: torch.Tensor, vocabulary: int) -> bool:
    """Whether the logits of all positions, as the head gives them, are a small part of a GPU's memory."""
    if not hidden.is_cuda:
        return False
    memory = torch.cuda.get_device_properties(hidden.device).total_memory
    return len(hidden) * vocabulary * hidden.element_size() <= memory * KEPT_SHARE


def _head_nats(score: Score, head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, z_loss: bool) -> Nats:
    return score(head(hidden), labels, z_loss)


def logit_nats(logits: torch.Tensor, labels: torch.Tensor, z_loss: bool) -> Nats:
    """(nats of each label; with `z_loss` the log of each softmax's normaliser Z, else None), fp32 [positions], 0 without label.

    `logits`: [positions, vocabulary]. A label's nats are log Z less its logit, so log Z costs no second pass over the vocabulary.
    """
    logits = logits.float()
    nats = functional.cross_entropy(logits, labels, reduction="none")
    if not z_loss:
        return nats, None
    seen = labels != IGNORE_INDEX
    own = logits.gather(1, labels.clamp(min=0)[:, None]).squeeze(1)
    return nats, (nats + own).masked_fill(~seen, 0.0)


def _extras(normalisers: torch.Tensor | None) -> Extras:
    """z-loss: log(Z)^2, summed over positions (Chowdhery et al. 2022, PaLM, arXiv:2204.02311, section 5)."""
    return {} if normalisers is None else {Z_LOSS: normalisers.square().sum()}


@functools.cache
def _compiled_nats() -> Score:
    """The same in two kernels that read the logits as they are, in place of a dozen over fp32 copies of them."""
    compiled: Score = torch.compile(logit_nats, dynamic=True)
    return compiled


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
