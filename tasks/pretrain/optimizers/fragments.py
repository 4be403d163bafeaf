"""Fragments: which part of which weight a rank updates, and where its fp32 numbers lie, under any ZeRO stage.

DeepSpeed hands an optimizer one flat fp32 tensor for each of its parameter groups (a *holder*): at stages 1 and 2 a stretch of
all the group's weights one after the other, at stage 3 a stretch of each of them. At stage 0 the weights are their own holders.
"""

import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from tasks.pretrain.optimizers.swapping import Swapping


@dataclass(frozen=True)
class Fragment:
    """`count` numbers of the weight `name` from `start` on, both flattened; they lie in `holder` (flattened) from `offset` on."""

    name: str
    shape: tuple[int, ...]
    holder: torch.Tensor
    offset: int
    start: int
    count: int

    def within(self, flat: torch.Tensor) -> torch.Tensor:
        """The fragment's part of a tensor of the holder's size: a view [count]."""
        return flat.view(-1).narrow(0, self.offset, self.count)


def find_fragments(engine: Any, zero_stage: int) -> list[Fragment]:
    """The fragments of this rank, in the model's order. A weight of which it holds nothing is left out."""
    zero = engine.optimizer
    found: list[Fragment] = []
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        if zero_stage == 0:
            fragment = Fragment(name, tuple(parameter.shape), parameter, 0, 0, parameter.numel())
        elif zero_stage == 3:
            group, offset, length = zero.grad_position[zero.get_param_id(parameter)]
            size = math.prod(parameter.ds_shape)
            start = length * torch.distributed.get_rank(parameter.ds_process_group)
            count = max(0, min(length, size - start))  # the last share is filled up
            fragment = Fragment(name, tuple(parameter.ds_shape), _holders(zero)[group], offset, start, count)
        elif parameter._hp_mapping is None:
            continue
        else:
            place, own = parameter._hp_mapping.hp_fragment_address, parameter._hp_mapping.lp_fragment_address
            holder = _holders(zero)[parameter._hp_mapping.param_group_index]
            fragment = Fragment(name, tuple(parameter.shape), holder, place.start, own.start, own.numel)
        if fragment.count:
            found.append(fragment)
    return found


def by_holder(fragments: Iterable[Fragment]) -> list[list[Fragment]]:
    """The fragments, those of one flat tensor together."""
    found: dict[int, list[Fragment]] = {}
    for fragment in fragments:
        found.setdefault(id(fragment.holder), []).append(fragment)
    return list(found.values())


def _holders(zero: Any) -> list[torch.Tensor]:
    """DeepSpeed's flat fp32 tensors: of stages 1 and 2, of stage 1 with bf16, of stage 3."""
    for name in ("single_partition_of_fp32_groups", "fp32_groups_flat_partition", "fp32_partitioned_groups_flat"):
        if holders := getattr(zero, name, None):
            return list(holders)
    raise AssertionError(f"{type(zero).__name__}: no flat fp32 tensors")


def refresh_weights(engine: Any, zero_stage: int, swapping: Swapping | None = None) -> None:
    """Bring the weights that the model computes with to the fp32 numbers of the fragments. Collective."""
    zero = engine.optimizer
    if zero_stage == 3:
        zero._partition_all_parameters()  # else what is gathered, as small weights are between steps, stays as it is
        for group, holder in enumerate(zero.fp32_partitioned_groups_flat):
            with swapping.resident(holder) if swapping else nullcontext():
                zero._reassign_or_swap_out_partitioned_parameters(group)
        if zero.persistent_parameters:
            zero.persistent_parameters[0].all_gather(zero.persistent_parameters)
    elif zero_stage:
        zero.update_lp_params()
