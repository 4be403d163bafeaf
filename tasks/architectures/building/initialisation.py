"""First weights that depart from the family's own: by choice, on the model that transformers has initialised."""

import math
from typing import Any

import torch

from tasks.architectures.building.block_weights import block_matrices, residual_outputs
from tasks.architectures.building.mup import initialise_mup
from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.family import Family


def initialise(model: Any, family: Family, choices: Architecture, seed: int) -> None:
    """Change the first weights of `model` as `choices` say; none asked for, none is touched.

    xavier: variance 2 / (fan in + fan out) (Glorot & Bengio 2010); kaiming: 2 / fan in (He et al. 2015, arXiv:1502.01852).
    scale_residual divides what writes into the residual stream by the root of twice the layers (Radford et al. 2019).
    """
    generator = torch.Generator().manual_seed(seed)
    if choices.initialisation in ("xavier", "kaiming"):
        for _, weight, fan_in, fan_out in block_matrices(model, family):
            variance = 2 / (fan_in + fan_out) if choices.initialisation == "xavier" else 2 / fan_in
            with torch.no_grad():
                weight.normal_(0.0, math.sqrt(variance), generator=generator)
    if choices.mup_base_width:
        initialise_mup(model, family, choices, generator)
    own = family.name in ("gpt2", "modernbert") and choices.initialisation not in ("xavier", "kaiming")
    for weight in residual_outputs(model, family):
        with torch.no_grad():
            if choices.zero_init_outputs:
                weight.zero_()
            elif choices.scale_residual and not own:  # GPT-2 and ModernBERT scale themselves
                weight.div_(math.sqrt(2 * model.config.num_hidden_layers))
    if choices.positions == "sinusoidal":
        set_sinusoids(model, family)


def set_sinusoids(model: Any, family: Family) -> None:
    """Make the tables of positions sines that do not learn."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and name.endswith(family.position_tables):
            with torch.no_grad():
                module.weight.copy_(sinusoids(*module.weight.shape))
            module.weight.requires_grad_(False)


def sinusoids(positions: int, width: int) -> torch.Tensor:
    """fp32 [positions, width]: sines in the first half, cosines in the second (Vaswani et al. 2017, arXiv:1706.03762, 3.5)."""
    rates = torch.exp(torch.arange((width + 1) // 2) * (-math.log(10000.0) * 2 / width))
    angles = torch.arange(positions)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()[:, : width // 2]], 1)
