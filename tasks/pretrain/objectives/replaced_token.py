"""Replaced token detection: which tokens did a generator put there? (ELECTRA, arXiv:2003.10555.)

The generator learns masked language modelling; what it draws for the hidden tokens, the discriminator tells from the original.
The loss is the generator's and 50 times the discriminator's (appendix A), the latter over all tokens of a row.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from tasks.architectures.families.family import Family
from tasks.architectures.memory import CHUNK_POSITIONS
from tasks.pretrain.data_loader import IGNORE_INDEX, Batch
from tasks.pretrain.objectives.hiding import Hiding
from tasks.pretrain.objectives.masked import Masked, encoder_arguments
from tasks.pretrain.objectives.objective import Z_LOSS, Arrays, Extras
from tasks.pretrain.objectives.token_nats import bare_model, head_passed_over, logit_nats

DISCRIMINATOR_WEIGHT = 50.0
DRAWS = 1 << 31


class ReplacedToken:
    """Over a `tasks.architectures.building.electra.ReplacedTokenModel`; positions are those of hidden tokens, scored by the generator."""

    def __init__(self, family: Family, hiding: Hiding, pad: int, z_loss: float = 0.0) -> None:
        self.masked = Masked(family, hiding, pad, z_loss=z_loss)
        self.extra_weights: Mapping[str, float] = {"replaced_token": DISCRIMINATOR_WEIGHT, **self.masked.extra_weights}

    def collate(self, batch: Batch, generators: Sequence[np.random.Generator]) -> Arrays:
        """As masked, with `draws` (of which the generator's tokens come) and `text`, 1 where a token is no padding."""
        inputs = self.masked.collate(batch, generators)
        length = batch.input_ids.shape[1]
        draws = np.stack([draws.integers(DRAWS, size=length) for draws in generators])
        return {**inputs, "draws": draws, "text": (batch.labels != IGNORE_INDEX).astype(np.int64)}

    def targets(self, inputs: Arrays) -> int:
        """Hidden tokens."""
        return self.masked.targets(inputs)

    def nats(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Extras]:
        """The generator's nats; extras: `replaced_token`, the discriminator's mean over each row, summed; the generator's `z_loss`."""
        family, labels = self.masked.family, inputs["labels"].flatten()
        arguments = encoder_arguments(family, model, inputs)
        bare = bare_model(model)
        head = bare.get_output_embeddings()
        hidden_places = torch.nonzero(labels != IGNORE_INDEX).squeeze(1)
        with head_passed_over(bare):
            hidden = model(True, **arguments).logits.flatten(0, 1)[hidden_places]
        given = inputs["input_ids"].flatten().clone()
        nats = torch.zeros(labels.shape, dtype=torch.float32, device=labels.device)
        extras: Extras = {Z_LOSS: torch.zeros((), device=labels.device)} if Z_LOSS in self.extra_weights else {}
        for start in range(0, len(hidden_places), CHUNK_POSITIONS):
            places = hidden_places[start : start + CHUNK_POSITIONS]
            logits = head(hidden[start : start + CHUNK_POSITIONS]).float()
            scored, normalisers = logit_nats(logits, labels[places], bool(extras))
            nats = nats.index_copy(0, places, scored)
            if normalisers is not None:
                extras[Z_LOSS] = extras[Z_LOSS] + normalisers.square().sum()
            given[places] = draw(logits.detach(), inputs["draws"].flatten()[places])
        original = torch.where(labels == IGNORE_INDEX, inputs["input_ids"].flatten(), labels)
        replaced = (given != original).view_as(inputs["input_ids"])
        scores = model(False, **{**arguments, "input_ids": given.view_as(replaced)}).logits.float()
        losses = functional.binary_cross_entropy_with_logits(scores, replaced.float(), reduction="none")
        text = inputs["text"].float()
        extras["replaced_token"] = (losses * text).sum(1).div(text.sum(1).clamp(min=1)).sum()
        return nats, extras


def draw(logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """A token a position from softmax(logits [positions, vocabulary]); `draws`, int64 [positions] below 2^31, are the chances."""
    cumulated = logits.double().softmax(-1).cumsum(-1)
    chance = (draws.double() + 0.5) / DRAWS * cumulated[:, -1]
    return torch.searchsorted(cumulated, chance[:, None]).squeeze(1).clamp(max=logits.shape[1] - 1)
