"""What objectives of encoder-decoders share: spans of a document are hidden, and the decoder's labels are scored."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tasks.architectures.building.special_ids import SpecialIds
from tasks.architectures.memory import CHUNKED_FROM
from tasks.pretrain.data_loader import IGNORE_INDEX
from tasks.pretrain.objectives.objective import Z_LOSS, Arrays, Extras, z_weight
from tasks.pretrain.objectives.token_nats import label_nats


class SequenceToSequence:
    """An `Objective` but for `collate`. `fraction` of a document's tokens is hidden, in spans of a mean of `mean_span`."""

    def __init__(
        self,
        fraction: float,
        mean_span: float,
        ids: SpecialIds,
        chunked_from: int = CHUNKED_FROM,
        z_loss: float = 0.0,
    ) -> None:
        self.fraction, self.mean_span, self.ids, self.chunked_from = fraction, mean_span, ids, chunked_from
        self.extra_weights: Mapping[str, float] = z_weight(z_loss)

    def targets(self, inputs: Arrays) -> int:
        """All that the decoder tells."""
        return int(np.count_nonzero(inputs["labels"] != IGNORE_INDEX))

    def nats(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Extras]:
        """See `Objective.nats`; extras: `z_loss`. The encoder's padding is masked, the decoder's lies behind all that counts."""
        arguments: dict[str, Any] = {name: value for name, value in inputs.items() if name not in ("labels", "origins")}
        arguments["use_cache"] = False
        return label_nats(model, inputs["labels"], arguments, self.chunked_from, Z_LOSS in self.extra_weights)[:2]
