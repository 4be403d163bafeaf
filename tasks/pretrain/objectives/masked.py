"""Masked language modelling: hidden tokens are predicted from both sides (BERT, arXiv:1810.04805).

Hidden anew each time a row is seen, as in RoBERTa (arXiv:1907.11692).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from tasks.architectures.building.isolation import isolating_arguments
from tasks.architectures.families.family import Family
from tasks.architectures.memory import CHUNKED_FROM
from tasks.pretrain.data_loader import IGNORE_INDEX, Batch
from tasks.pretrain.objectives.document_rows import documents_of, origins, pad_rows, present
from tasks.pretrain.objectives.hiding import Hiding
from tasks.pretrain.objectives.objective import Z_LOSS, Arrays, Extras, z_weight
from tasks.pretrain.objectives.token_nats import bare_model, label_nats


class Masked:
    """Fraction, shares and whole words as `hiding` says."""

    def __init__(
        self, family: Family, hiding: Hiding, pad: int, chunked_from: int = CHUNKED_FROM, z_loss: float = 0.0
    ) -> None:
        self.family, self.hiding, self.pad, self.chunked_from = family, hiding, pad, chunked_from
        self.extra_weights: Mapping[str, float] = z_weight(z_loss)

    def collate(self, batch: Batch, generators: Sequence[np.random.Generator]) -> Arrays:
        """Rows with hidden tokens; where the family wants it, with one document a row and an `attention_mask`."""
        hidden = [self.hiding.hide(row, draws) for row, draws in zip(batch.input_ids, generators, strict=True)]
        given, labels = (np.stack(rows) for rows in zip(*hidden, strict=True))
        if self.family.isolation != "rows":
            return {"input_ids": given, "position_ids": batch.position_ids, "labels": labels}
        pieces = documents_of(batch)
        rows = [given[piece.row, piece.start : piece.end] for piece in pieces]
        return {
            "input_ids": pad_rows(rows, self.pad),
            "attention_mask": present(rows),
            "origins": origins(pieces, batch.input_ids.shape[1]),
            "labels": pad_rows([labels[piece.row, piece.start : piece.end] for piece in pieces], IGNORE_INDEX),
        }

    def targets(self, inputs: Arrays) -> int:
        """Hidden tokens."""
        return int(np.count_nonzero(inputs["labels"] != IGNORE_INDEX))

    def nats(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Extras]:
        """See `Objective.nats`; extras: `z_loss`."""
        arguments = encoder_arguments(self.family, model, inputs)
        return label_nats(model, inputs["labels"], arguments, self.chunked_from, Z_LOSS in self.extra_weights)[:2]


def encoder_arguments(
    family: Family, model: torch.nn.Module, inputs: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """What an encoder's forward is given of collated inputs."""
    arguments = {"input_ids": inputs["input_ids"]}
    if "attention_mask" in inputs:
        return {**arguments, "attention_mask": inputs["attention_mask"]}
    bare = bare_model(model)
    return arguments | isolating_arguments(family, bare.config, inputs["position_ids"], next(bare.parameters()).dtype)
