"""muP: first weights and rates under which what is tuned on a narrow model holds for a wide one.

Yang et al. 2022, "Tensor Programs V" (arXiv:2203.03466), table 8, for a width m times the base width, with heads of one size:
matrices inside the blocks have variance / m and Adam's rate / m; the output head's logits are divided by m. transformers has no
multiplier for logits, so the norm before the head starts at 1 / m with a rate / m: the same product, in every format of
the model. An untied head starts at variance / m² and learns at rate / m instead.

Muon moves a matrix by singular values of one size, in all directions, where Adam moves its entries: tasks.pretrain scales Muon's
updates to Adam's entries, which grows what they do to activations with the root of the width. Its rate is divided by the root of m.
"""

import math
from typing import Any

import torch

from tasks.architectures.building.block_weights import block_matrices
from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.family import Family


def width_factor(model: Any, base_width: int) -> float:
    """m: how many times wider the model is than the base."""
    return float(model.config.hidden_size) / base_width


def initialise_mup(model: Any, family: Family, choices: Architecture, generator: torch.Generator) -> None:
    """Scale the first weights of a freshly initialised `model`."""
    assert choices.mup_base_width  # noqa: S101
    factor = width_factor(model, choices.mup_base_width)
    with torch.no_grad():
        for _, weight, _, _ in block_matrices(model, family):
            weight.div_(math.sqrt(factor))
        if _is_tied(model):
            model.get_submodule(family.final_norm).weight.div_(factor)
        else:
            model.get_output_embeddings().weight.div_(factor)


def learning_rate_multipliers(
    model: Any, family: Family, base_width: int, orthogonalised: frozenset[str] = frozenset()
) -> dict[str, float]:
    """By name of each weight, what its learning rate is multiplied by; `orthogonalised` are the names of Muon's."""
    factor = width_factor(model, base_width)
    inner = {name for name, *_ in block_matrices(model, family)}
    last = {f"{family.final_norm}.weight", f"{family.final_norm}.bias"}
    if not _is_tied(model):
        head = id(model.get_output_embeddings().weight)
        last = {name for name, weight in model.named_parameters() if id(weight) == head}
    multipliers = {}
    for name, _ in model.named_parameters():
        scaled = 1 / math.sqrt(factor) if name in orthogonalised else 1 / factor
        multipliers[name] = scaled if name in inner or name in last else 1.0
    return multipliers


def _is_tied(model: Any) -> bool:
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight
