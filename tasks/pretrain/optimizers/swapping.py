"""What ZeRO 3 keeps in files (offload: nvme): brought into memory, one flat tensor at a time, for whoever reads or changes it.

DeepSpeed does so for its own step alone; between steps the flat fp32 tensors and the optimizer's state by them are empty. Those of
less than a megabyte never leave the memory. The files lie with the run's checkpoints, and are made anew by each start.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

BUFFERS = 6
"""Pinned buffers of a flat tensor's size: the weights, their gradient, at most three of state, one to spare."""


class Swapping:
    """The flat tensors of a ZeRO 3 optimizer, by what is to be done with them."""

    def __init__(self, zero: Any) -> None:
        self.zero = zero
        self._numbers = {id(holder): number for number, holder in enumerate(zero.fp32_partitioned_groups_flat)}

    @contextmanager
    def resident(self, holder: torch.Tensor, changed: bool = False) -> Iterator[None]:
        """Have a flat tensor and its state in memory; afterwards written back, if they were `changed`, and gone."""
        number = self._numbers[id(holder)]
        swapped = self.zero._swappable_optimizer_subgroup(number)
        if swapped:
            self.zero._optimizer_states_and_gradient_swap_in(number)
        try:
            yield
        finally:
            if swapped and changed:
                self.zero._optimizer_states_and_gradient_swap_out(number)
            elif swapped:
                self.zero._release_swap_buffers(number)

    def gradient_norms(self) -> list[torch.Tensor]:
        """The norm of this rank's share of each weight's gradient: DeepSpeed takes it before the gradient goes to its file."""
        return [torch.as_tensor(norm) for norm in self.zero.norm_for_param_grads.values()]
