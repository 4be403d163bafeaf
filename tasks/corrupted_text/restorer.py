"""A restorer: a model that tells of corrupted text what stood there, and what has to be known of it to ask."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.architectures.building.special_ids import MASK, sentinel
from tasks.architectures.families.family import ObjectiveName
from tasks.architectures.families.table import FAMILIES
from tasks.core.errors import UserError
from tasks.model.load import load_own_class, no_causal_class
from tasks.tokens.special_tokens import read_special_tokens
from tasks.tokens.token_texts import read_token_texts

OBJECTIVES: dict[str, ObjectiveName] = {
    name: objective for family in FAMILIES.values() for objective, name in family.classes.items()
}
"""transformers' class of a model → what it was trained to do."""
GENERATOR = "generator"
"""Folder of ELECTRA's generator, beside the discriminator's files."""


@dataclass(frozen=True)
class Restorer:
    """A model and its tokenizer's ids.

    Attributes:
        model: of transformers, in evaluation mode; of ELECTRA the discriminator.
        objective: what it was trained to do; not causal.
        context: tokens that it reads at once.
        start, pad: ids of the tokens that begin a document and that fill rows.
        mask: id of the mask; -1, which is no token, where spans have sentinels.
        sentinels: their ids, that of the first span first; empty where there is a mask.
        token_bytes: int64 [vocabulary], bytes of text that a token stands for, 0 for control tokens.
        generator: ELECTRA's; None for others.
    """

    model: Any
    objective: ObjectiveName
    context: int
    start: int
    pad: int
    mask: int
    sentinels: tuple[int, ...]
    token_bytes: npt.NDArray[np.int64]
    generator: Any = None


def objective_of(folder: Path) -> ObjectiveName:
    """What the model in `folder` was trained to do, by its class; "causal" for all that predict a next token.

    Raises:
        UserError: no family that is trained here has its class.
    """
    name = no_causal_class(folder)
    if name is None:
        return "causal"
    if name not in OBJECTIVES:
        raise UserError(f"{folder}: holds a {name}, which is no class of the families here: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def load_restorer(folder: Path, device: str) -> Restorer:
    """The encoder or encoder-decoder that pretrain left in `folder`, fp32, on `device`.

    Raises:
        UserError: model or tokenizer cannot be read, or lack a token or a generator that the objective needs.
    """
    objective, special = objective_of(folder), read_special_tokens(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    sentinels = tuple(special.ids[sentinel(n)] for n in range(len(special.ids)) if sentinel(n) in special.ids)
    if not sentinels and MASK not in special.ids:
        raise UserError(
            f"{folder}: its tokenizer has neither {MASK} nor {sentinel(0)}. Make it again: dvc repro --force pretrain"
        )
    return Restorer(
        load_own_class(folder, device),
        objective,
        int(settings["model_max_length"]),
        special.ids[special.start],
        special.ids[special.pad],
        special.ids.get(MASK, -1),
        sentinels,
        np.array([len(text) for text in read_token_texts(folder)], dtype=np.int64),
        load_own_class(folder / GENERATOR, device) if objective == "replaced_token" else None,
    )
