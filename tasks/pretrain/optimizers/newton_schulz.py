"""Orthogonalising matrices by Newton-Schulz iterations: what Muon does to a momentum (Jordan 2024)."""

import torch

from tasks.architectures.roles import Weight


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of each matrix in `matrix` [..., rows, columns] to about 1 by five quintic iterations."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[-2] > matrix.shape[-1]
    wide: torch.Tensor = matrix.mT if tall else matrix
    x: torch.Tensor = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        if x.ndim == 2:
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        else:
            x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def linear_maps(tensor: torch.Tensor, weight: Weight) -> list[torch.Tensor]:
    """The linear maps in a weight, each [..., outputs, inputs]: one, or those that are fused in it. Views where they can be."""
    rows = tensor.mT if weight.output_last else tensor
    if not weight.blocks:
        return [rows]
    repeated = rows.reshape(*rows.shape[:-2], weight.repeats, sum(weight.blocks), rows.shape[-1])
    return [part.flatten(-3, -2) for part in torch.split(repeated, list(weight.blocks), dim=-2)]


def join_maps(maps: list[torch.Tensor], weight: Weight) -> torch.Tensor:
    """The weight's tensor from its linear maps: the inverse of `linear_maps`."""
    if weight.blocks:
        parts = [part.reshape(*part.shape[:-2], weight.repeats, -1, part.shape[-1]) for part in maps]
        rows = torch.cat(parts, dim=-2).flatten(-3, -2)
    else:
        (rows,) = maps
    return rows.mT if weight.output_last else rows
