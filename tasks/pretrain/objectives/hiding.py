"""Hiding tokens of a row: which, and what stands in their place."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.pretrain.data_loader import IGNORE_INDEX, Int64
from tasks.pretrain.objectives.words import Words

OWN_SHARES: dict[Literal["masked", "replaced_token"], tuple[float, float]] = {
    "masked": (0.8, 0.1),
    "replaced_token": (0.85, 0.0),
}
"""(mask, random) of the hidden tokens: BERT (arXiv:1810.04805, 3.1), ELECTRA (its published code; arXiv:2003.10555, 3.1)."""


@dataclass(frozen=True)
class Hiding:
    """How tokens are hidden.

    Attributes:
        fraction: share of the ordinary tokens that is hidden, each (or each word) with this probability.
        mask_share, random_share: of those, what becomes the mask or a random ordinary token; the rest stays as it is.
        mask: the mask's id.
        ordinary: bool [vocabulary]: tokens that stand for text; no other is hidden, or drawn.
        words: set where words are hidden whole.
    """

    fraction: float
    mask_share: float
    random_share: float
    mask: int
    ordinary: npt.NDArray[np.bool_]
    words: Words | None = None

    def hide(self, tokens: Int64, generator: np.random.Generator) -> tuple[Int64, Int64]:
        """(what the model is given, labels), each int64 [tokens]; the same number of draws for any row of a length."""
        chance, kind = generator.random((2, len(tokens)))
        text = np.flatnonzero(self.ordinary)
        random = text[generator.integers(len(text), size=len(tokens))]
        if self.words:
            chance = chance[self.words.of(tokens)]
        hidden = (chance < self.fraction) & self.ordinary[tokens]
        given = np.where(hidden & (kind < self.mask_share), self.mask, tokens)
        drawn = hidden & (kind >= self.mask_share) & (kind < self.mask_share + self.random_share)
        return np.where(drawn, random, given), np.where(hidden, tokens, IGNORE_INDEX)
