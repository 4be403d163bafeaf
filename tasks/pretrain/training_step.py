"""One optimizer step: the micro-batches of a global batch, forward and backward, what is checked of the gradient, the update."""

import math
from typing import Any

import numpy as np
import torch

from tasks.pretrain.data_loader import Int64, PackedDataset, RowSampler, split_rows
from tasks.pretrain.distributed import ProcessGroup
from tasks.pretrain.engine import gradient_norm, set_accumulation
from tasks.pretrain.objectives.objective import PER_TARGET, Arrays, Extras, Objective, row_generators
from tasks.pretrain.optimizers.optimizer import MixedOptimizer
from tasks.pretrain.optimizers.schedule import learning_rate
from tasks.pretrain.params import PlannedParams
from tasks.pretrain.short_rows import cut_rows, filled_rows, places_of
from tasks.pretrain.stability import Stability

Row = dict[str, float | int | None]
"""A row of the curves."""


class TrainingStep:
    """What a step trains on is a function of its number alone; a rank takes its share of the rows, a micro-batch at a time.

    Attributes:
        context_lengths: tokens in the rows of each step.
        batch_rows: rows, of the data's length, of each step over all ranks.
        micro_rows, accumulation: rows of a micro-batch, and how many of those a rank takes in a step; first, those of the last batch.
        extras: the objective's further losses, of the last step.
    """

    def __init__(self, params: PlannedParams, group: ProcessGroup, data: PackedDataset, objective: Objective) -> None:
        self.params, self.group, self.data, self.objective = params, group, data, objective
        self.context_lengths = params.context_lengths(data.context_length)
        self.batch_rows = params.batch_tokens.parts(data.context_length)
        self.order = RowSampler(len(data), self.batch_rows, params.seed)
        self.micro_rows, self.accumulation = self._split(self.batch_rows.last)
        self.stability = Stability(params)
        self.extras: dict[str, float] = {}
        self._prepared: tuple[int, Int64, list[Arrays], int] = (-1, np.empty(0, np.int64), [], 0)

    def bind(self, engine: Any, optimizer: MixedOptimizer) -> None:
        """Set the engine and the optimizer that steps are taken with."""
        self.engine, self.optimizer = engine, optimizer

    def _split(self, batch_rows: int) -> tuple[int, int]:
        """(rows of a micro-batch, how many of those a rank takes) of a step of `batch_rows`."""
        return split_rows(batch_rows // self.group.size, self.params.micro_batch_rows)

    def nats(self, inputs: Arrays) -> tuple[torch.Tensor, Extras]:
        """What the objective says of collated inputs."""
        tensors = {
            name: torch.from_numpy(array).to(self.group.device, non_blocking=True) for name, array in inputs.items()
        }
        return self.objective.nats(self.engine, tensors)

    def take(self, step: int, tokens: int) -> Row:
        """Take step `step` (from 0) after `tokens` were trained on; returns its row of the curves, without validation.

        Raises:
            UserError: loss or gradient are not finite, where that is to stop training.
        """
        rows, mine, filled = self._collated(step)
        if (split := self._split(len(rows))) != (self.micro_rows, self.accumulation):
            self.micro_rows, self.accumulation = split
            set_accumulation(self.engine, *split, self.group.size)
        # Of the global batch: the loss is its mean, however it is split.
        counts = self.group.all_reduce_sum(float(sum(map(self.objective.targets, mine))), float(filled))
        targets, filled = (max(1, int(count)) for count in counts)
        loss = self._backward(mine, targets, filled, step)
        norm = gradient_norm(self.engine, self.group, self.params.zero_stage)
        rate = learning_rate(self.params, step)
        skip = self.stability.skips(step + 1, loss, norm, lambda: self.data.describe(rows))
        self.optimizer.prepare(rate, min(1.0, (self.params.clip or math.inf) / (norm + 1e-6)), skip)
        self.engine.step()
        return {
            "step": step + 1,
            "tokens": tokens + targets,
            "loss": loss if math.isfinite(loss) else None,
            "learning_rate": rate,
            "gradient_norm": norm if math.isfinite(norm) else None,
        }

    def _collated(self, step: int) -> tuple[Int64, list[Arrays], int]:
        """The rows of a step, micro-batches of this rank, how many rows of the step's length those fill. The last answer is kept."""
        if self._prepared[0] != step:
            rows = self.order.rows_of_step(step)
            micro_rows, accumulation = self._split(len(rows))
            places = np.arange(len(rows)).reshape(self.group.size, accumulation, micro_rows)[self.group.rank]
            context_length = self.context_lengths.at(step)
            parts = self.data.context_length // context_length
            mine, filled = [], 0
            for at in places:
                batch = cut_rows(self.data.batch(rows[at]), context_length)
                draws = row_generators(self.params.seed, step, places_of(at.tolist(), parts))
                mine.append(self.objective.collate(batch, draws))
                filled += filled_rows(batch)
            self._prepared = step, rows, mine, filled
        return self._prepared[1:]

    def _backward(self, mine: list[Arrays], targets: int, rows: int, step: int) -> float:
        """Pass this rank's micro-batches forward and backward; returns the loss of the global batch, nats a target."""
        total = torch.zeros((), dtype=torch.float64, device=self.group.device)
        extras = dict.fromkeys(self.objective.extra_weights, 0.0)
        share = self.group.size * self.accumulation
        for number, micro in enumerate(mine):
            if self.params.architecture.dropout:  # of all else nothing draws; so a run taken up again draws the same
                torch.manual_seed(hash((self.params.seed, step, self.group.rank, number)))
            by_label, further = self.nats(micro)
            nats = by_label.sum()
            total += nats.detach()
            # DeepSpeed divides by the accumulated batches and averages over the ranks; the loss already is a mean.
            lost = nats * (share / targets)
            for name, extra in further.items():
                over = targets if name in PER_TARGET else rows
                lost = lost + extra * (self.objective.extra_weights[name] * share / over)
                extras[name] += extra.item() / over
            last = number == self.accumulation - 1
            self.engine.set_gradient_accumulation_boundary(last)  # its own count goes by one size of the batch
            self.engine.backward(lost)
            if not last:
                self.engine.step()
        if total.is_cuda and step + 1 < self.params.steps:
            self._collated(step + 1)  # while the device is busy with this one
        if extras:
            self.extras = dict(zip(extras, self.group.all_reduce_sum(*extras.values()), strict=True))
        return self.group.all_reduce_sum(total.item())[0] / targets
