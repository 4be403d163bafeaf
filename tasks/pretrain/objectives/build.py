"""The objective of a run, of its parameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.architectures.building.special_ids import SpecialIds, special_ids
from tasks.architectures.families.family import Family, ObjectiveName
from tasks.architectures.memory import CHUNKED_FROM
from tasks.pretrain.objectives.causal import Causal
from tasks.pretrain.objectives.denoising import Denoising
from tasks.pretrain.objectives.hiding import OWN_SHARES, Hiding
from tasks.pretrain.objectives.masked import Masked
from tasks.pretrain.objectives.objective import Objective
from tasks.pretrain.objectives.params import MaskingParams
from tasks.pretrain.objectives.replaced_token import ReplacedToken
from tasks.pretrain.objectives.span_corruption import SpanCorruption, most_spans
from tasks.pretrain.objectives.words import Words

OWN_MEAN_SPAN = 3.0


def objective_ids(
    family: Family,
    objective: ObjectiveName,
    masking: MaskingParams,
    vocabulary: int,
    document_start: int,
    pad: int,
    context_length: int,
) -> SpecialIds:
    """The special ids that a model for the objective needs over a tokenizer of `vocabulary` tokens."""
    spans = most_spans(context_length, masking.fraction or family.masked_fraction, masking.mean_span or OWN_MEAN_SPAN)
    return special_ids(objective, vocabulary, document_start, pad, spans)


def build_objective(
    family: Family,
    objective: ObjectiveName,
    masking: MaskingParams,
    ids: SpecialIds,
    token_texts: Sequence[bytes],
    config: Any,
    chunked_from: int = CHUNKED_FROM,
    z_loss: float = 0.0,
) -> Objective:
    """The objective; `token_texts` are the bytes of each token of the tokenizer, empty for special ones; `config` the model's."""
    fraction = masking.fraction or family.masked_fraction
    mean_span = masking.mean_span or OWN_MEAN_SPAN
    if objective == "causal":
        router_weight = config.router_aux_loss_coef if "experts" in family.choices else None
        return Causal(family, router_weight, chunked_from, z_loss)
    if objective == "span_corruption":
        return SpanCorruption(fraction, mean_span, ids, chunked_from, z_loss)
    if objective == "denoising":
        return Denoising(fraction, mean_span, ids, chunked_from, z_loss)
    own_mask, own_random = OWN_SHARES[objective]
    hiding = Hiding(
        fraction,
        own_mask if masking.mask_share is None else masking.mask_share,
        own_random if masking.random_share is None else masking.random_share,
        ids.mask,
        np.array([bool(text) for text in token_texts] + [False] * len(ids.added)),
        Words(token_texts) if masking.whole_words else None,
    )
    if objective == "masked":
        return Masked(family, hiding, ids.pad, chunked_from, z_loss)
    return ReplacedToken(family, hiding, ids.pad, z_loss)
