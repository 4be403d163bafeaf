"""What an objective is to the training loop."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from tasks.pretrain.data_loader import Batch

Arrays = dict[str, npt.NDArray[np.int64]]
Extras = dict[str, torch.Tensor]
Z_LOSS = "z_loss"
PER_TARGET = frozenset({Z_LOSS})
"""Further losses that are a sum over targets; all others are one over rows."""


def z_weight(z_loss: float) -> dict[str, float]:
    """The weight of z-loss among `Objective.extra_weights`, where there is one."""
    return {Z_LOSS: z_loss} if z_loss else {}


class Objective(Protocol):
    """Makes a model's inputs of rows, and scores what the model says of them.

    `extra_weights` are the weights of the losses, beside the negative log-likelihood, that `nats` returns by the same names:
    the loss of a step is nats / targets + the sum of weight x extra / rows, nats, targets, extras and rows (but those of padding alone)
    summed over the global batch; extras `PER_TARGET` are divided by targets instead. So it does not matter how that is split.
    """

    extra_weights: Mapping[str, float]

    def collate(self, batch: Batch, generators: Sequence[np.random.Generator]) -> Arrays:
        """Inputs and `labels`, int64 [rows, tokens]; labels are in line with the logits, IGNORE_INDEX where nothing is to predict.

        Where the rows were taken apart, `origins`, int64 [rows], say of each the place of its first token in the batch, counted
        row after row; else labels stand where the batch has its tokens.

        `generators`: one for each row of `batch` (`row_generators`), of which all randomness comes.
        """
        ...

    def targets(self, inputs: Arrays) -> int:
        """Positions of collated `inputs` that have something to predict."""
        ...

    def nats(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Extras]:
        """Negative log-likelihood of each label, nats, fp32 [positions], 0 where nothing is to predict; and further losses.

        `model` is the model or the engine around it; `inputs` are what `collate` gave, on its device. Extras are fp32 scalars.
        """
        ...


def row_generators(seed: int, step: int, places: Sequence[int]) -> list[np.random.Generator]:
    """A generator for each row, by its place in the global batch: other ranks or micro-batches draw the same."""
    return [np.random.default_rng([seed, step, int(place)]) for place in places]
