"""One optimizer step: the micro-batches of a global batch, forward and backward, what is checked of the gradient, the update."""

import math
from typing import Any

import numpy as np
import torch

from tasks.pretrain.data_loader import Int64, PackedDataset, RowSampler
from tasks.pretrain.distributed import ProcessGroup
from tasks.pretrain.engine import gradient_norm
from tasks.pretrain.objectives.objective import Arrays, Extras, Objective, row_generators
from tasks.pretrain.optimizers.optimizer import MixedOptimizer
from tasks.pretrain.optimizers.schedule import learning_rate
from tasks.pretrain.packed_input import rows_at_once
from tasks.pretrain.params import PlannedParams
from tasks.pretrain.stability import Stability

Row = dict[str, float | int | None]
"""A row of the curves."""


class TrainingStep:
    """What a step trains on is a function of its number alone; a rank takes its share of the rows, a micro-batch at a time.

    Attributes:
        batch_rows, micro_rows, accumulation: rows of a step over all ranks, of a micro-batch, and how many of those a rank takes.
        extras: the objective's further losses, of the last step.
    """

    def __init__(self, params: PlannedParams, group: ProcessGroup, data: PackedDataset, objective: Objective) -> None:
        self.params, self.group, self.data, self.objective = params, group, data, objective
        self.batch_rows = params.global_batch_tokens // data.context_length
        self.order = RowSampler(len(data), self.batch_rows, params.seed)
        rank_rows = self.batch_rows // group.size
        self.micro_rows = rows_at_once(params.micro_batch_rows, rank_rows)
        self.accumulation = rank_rows // self.micro_rows
        self.stability = Stability(params)
        self.extras: dict[str, float] = {}
        self._prepared: tuple[int, Int64, list[Arrays]] = (-1, np.empty(0, np.int64), [])

    def bind(self, engine: Any, optimizer: MixedOptimizer) -> None:
        """Set the engine and the optimizer that steps are taken with."""
        self.engine, self.optimizer = engine, optimizer

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
        rows, mine = self._collated(step)
        # Of the global batch: the loss is its mean, however it is split.
        targets = max(1, int(self.group.all_reduce_sum(float(sum(map(self.objective.targets, mine))))[0]))
        loss = self._backward(mine, targets, step)
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

    def _collated(self, step: int) -> tuple[Int64, list[Arrays]]:
        """The rows of a step, and this rank's micro-batches of them. Those asked for last are kept."""
        if self._prepared[0] != step:
            rows = self.order.rows_of_step(step)
            places = np.arange(len(rows)).reshape(self.group.size, self.accumulation, self.micro_rows)[self.group.rank]
            mine = [
                self.objective.collate(self.data.batch(rows[at]), row_generators(self.params.seed, step, at.tolist()))
                for at in places
            ]
            self._prepared = step, rows, mine
        return self._prepared[1:]

    def _backward(self, mine: list[Arrays], targets: int, step: int) -> float:
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
                lost = lost + extra * (self.objective.extra_weights[name] * share / self.batch_rows)
                extras[name] += extra.item() / self.batch_rows
            self.engine.backward(lost)
            if number < self.accumulation - 1:
                self.engine.step()
        if total.is_cuda and step + 1 < self.params.steps:
            self._collated(step + 1)  # while the device is busy with this one
        if extras:
            self.extras = dict(zip(extras, self.group.all_reduce_sum(*extras.values()), strict=True))
        return self.group.all_reduce_sum(total.item())[0] / targets
