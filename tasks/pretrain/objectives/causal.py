"""Causal language modelling: each token predicts the next one of its document."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from tasks.architectures.building.attention import document_starts
from tasks.architectures.building.isolation import isolating_arguments
from tasks.architectures.families.family import Family
from tasks.architectures.memory import CHUNKED_FROM
from tasks.pretrain.data_loader import IGNORE_INDEX, Batch
from tasks.pretrain.objectives.objective import Z_LOSS, Arrays, Extras, z_weight
from tasks.pretrain.objectives.router_balance import load_balancing_loss
from tasks.pretrain.objectives.token_nats import bare_model, label_nats


class Causal:
    """Bengio et al. 2003; Radford et al. 2018. Of a model with experts, the load-balancing loss goes with it.

    A model whose output head is not the last step before the softmax (a soft cap, a scale) must have `chunked_from` beyond its
    vocabulary.
    """

    def __init__(
        self,
        family: Family,
        router_weight: float | None = None,
        chunked_from: int = CHUNKED_FROM,
        z_loss: float = 0.0,
    ) -> None:
        self.family, self.chunked_from, self.routes = family, chunked_from, router_weight is not None
        balance = {} if router_weight is None else {"load_balancing": router_weight}
        self.extra_weights: Mapping[str, float] = balance | z_weight(z_loss)

    def collate(self, batch: Batch, generators: Sequence[np.random.Generator]) -> Arrays:
        """The rows as they are, and where documents begin; nothing is drawn."""
        return {
            "input_ids": batch.input_ids,
            "position_ids": batch.position_ids,
            "labels": batch.labels,
            "document_starts": document_starts(batch.position_ids),
        }

    def targets(self, inputs: Arrays) -> int:
        """All tokens but padding."""
        return int(np.count_nonzero(inputs["labels"] != IGNORE_INDEX))

    def nats(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Extras]:
        """See `Objective.nats`; extras: `load_balancing`, where there are experts, and `z_loss`."""
        bare = bare_model(model)
        dtype = next(bare.parameters()).dtype
        arguments = {
            "input_ids": inputs["input_ids"],
            **isolating_arguments(self.family, bare.config, inputs["position_ids"], dtype, inputs["document_starts"]),
        }
        if self.routes:
            arguments["output_router_logits"] = True
        wanted = Z_LOSS in self.extra_weights
        nats, extras, output = label_nats(
            model, inputs["labels"], arguments, self.chunked_from, wanted, everywhere=True
        )
        if not self.routes:
            return nats, extras
        seen = inputs["labels"] != IGNORE_INDEX
        balance = load_balancing_loss(output.router_logits, seen, bare.config.num_experts_per_tok)
        return nats, {"load_balancing": balance, **extras}
