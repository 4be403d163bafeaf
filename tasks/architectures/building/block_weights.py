"""The weights inside a model's blocks, by what they do, whatever a family calls them."""

from collections.abc import Iterator
from typing import Any

import torch

from tasks.architectures.families.family import Family


def block_matrices(model: Any, family: Family) -> Iterator[tuple[str, torch.nn.Parameter, int, int]]:
    """(name, weight, fan in, fan out) of every matrix but embeddings, position tables and the output head.

    Experts lie in one weight [experts, out, in]. GPT-2's Conv1D keeps its matrix as [in, out], all others as [out, in].
    """
    from transformers.pytorch_utils import Conv1D

    outer = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    head = model.get_output_embeddings()
    if head is not None:
        outer.add(id(head.weight))
    turned = {id(module.weight) for module in model.modules() if isinstance(module, Conv1D)}
    for name, weight in model.named_parameters():
        if weight.ndim < 2 or id(weight) in outer:
            continue
        rows, columns = weight.shape[-2:]
        yield (name, weight, rows, columns) if id(weight) in turned else (name, weight, columns, rows)


def residual_outputs(model: Any, family: Family) -> list[torch.nn.Parameter]:
    """The weights and biases that write into the residual stream."""
    ends = tuple(end for name in family.residual_outputs for end in (name, f"{name}.weight", f"{name}.bias"))
    return [
        weight for name, weight in model.named_parameters() if f".{name}".endswith(tuple(f".{end}" for end in ends))
    ]
