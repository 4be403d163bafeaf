"""Document isolation in a model of somebody else: whether the documents of a packed row can be kept apart in it, and how.

What families of models are known here say themselves (tasks.architectures); of others, transformers may make the mask of
positions that restart. Both are tried on the model at hand.
"""

from dataclasses import replace
from typing import Any

import torch

from tasks.architectures.building.isolation import isolating_arguments
from tasks.architectures.families.family import Family
from tasks.architectures.families.table import BY_MODEL_TYPE, FAMILIES
from tasks.core.errors import UserError

TOLERANCE = 1e-3
"""Of the largest logit: what the order of sums may change."""
DECODERS = ", ".join(family.name for family in FAMILIES.values() if family.is_causal)
KNOWN_HEADS = frozenset(family.model_type for family in FAMILIES.values() if family.is_causal)
"""Kinds of models whose output head is known to be the last step before the softmax."""


def isolating_family(model: Any, name: str) -> Family:
    """The family by which the documents of `model` are kept apart, checked by asking for one alone, and behind another.

    Raises:
        UserError: it is no decoder, or a document sees the one before it.
    """
    kind = str(model.config.model_type)
    family = BY_MODEL_TYPE.get(kind) or replace(FAMILIES["llama"], name=kind, model_type=kind)
    if not family.is_causal:
        raise UserError(
            f"{name}: {kind} is no decoder. pretrain.start_from goes on with decoders ({DECODERS}, and others that are kept "
            f"apart by positions). To train a {family.name} from nothing: pretrain.family: {family.name}"
        )
    if _leaks(model, family):
        raise UserError(
            f"{name}: this kind of model ({kind}) lets the documents of a row see each other, so it cannot be trained on packed "
            f"rows. Name it in finetune.start_from instead, or start from one of: {DECODERS}"
        )
    return family


def _leaks(model: Any, family: Family) -> bool:
    vocabulary, length = model.get_input_embeddings().weight.shape[0], 8
    tokens = torch.arange(3 * length).mul(7919).remainder(vocabulary)[None]
    positions = torch.cat([torch.arange(length), torch.arange(2 * length)])[None]
    model.eval()
    with torch.no_grad():
        alone = model(input_ids=tokens[:, length:], use_cache=False).logits
        behind = model(input_ids=tokens, **isolating_arguments(family, model.config, positions, alone.dtype)).logits
    difference = float((alone - behind[:, length:]).abs().max() / alone.abs().max())
    return not difference <= TOLERANCE
