"""Tiny models of every family, and what trains them."""

from typing import Any

import numpy as np
import torch

from tasks.architectures.building.create import create_config, create_model
from tasks.architectures.building.electra import ReplacedTokenModel
from tasks.architectures.building.special_ids import SpecialIds
from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.family import Family
from tasks.architectures.families.table import FAMILIES
from tasks.architectures.shape import Shape
from tasks.architectures.shape_checks import check_shape
from tasks.pretrain.data_loader import IGNORE_INDEX, Batch, Int64
from tasks.pretrain.objectives.build import build_objective, objective_ids
from tasks.pretrain.objectives.objective import PER_TARGET, Objective, row_generators
from tasks.pretrain.objectives.params import MaskingParams

VOCABULARY = 64
START, PAD, FIRST = 0, 1, 6
CONTEXT = 32
TEXTS = [b""] * FIRST + [bytes([32, 65 + number]) for number in range(VOCABULARY - FIRST)]
"""Tokens of a letter each with a space before it; the first six are control tokens."""


def shape_of(
    family: Family,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 4,
    vocabulary: int = VOCABULARY,
    context: int = CONTEXT,
) -> Shape:
    kv_heads = heads // 2 if "kv_heads" in family.shape else heads
    return Shape(layers, hidden, heads, kv_heads, 4 * hidden, vocabulary, context)


def ids_of(family: Family, vocabulary: int = VOCABULARY, context: int = CONTEXT, **masking: Any) -> SpecialIds:
    params = MaskingParams.model_validate(masking)
    return objective_ids(family, family.objective, params, vocabulary, START, PAD, context)


def tiny(
    name: str,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 4,
    seed: int = 0,
    masking: dict[str, Any] | None = None,
    **choices: Any,
) -> Any:
    """A model of a family, as it is built for its own objective (ELECTRA's without its generator)."""
    family, chosen = FAMILIES[name], Architecture.model_validate(choices)
    shape = shape_of(family, layers, hidden, heads)
    check_shape(family, shape, chosen)
    config = create_config(family, shape, chosen, ids_of(family, **(masking or {})))
    return create_model(family, family.objective, config, chosen, seed)


def trained_pair(
    name: str, masking: dict[str, Any] | None = None, chunked_from: int = 32_000, z_loss: float = 0.0, **sizes: Any
) -> tuple[Any, Objective]:
    """A model as it is trained (ELECTRA's with its generator), and its objective."""
    family, params = FAMILIES[name], MaskingParams.model_validate(masking or {})
    model = tiny(name, masking=masking, **sizes)
    if family.objective == "replaced_token":
        choices = Architecture.model_validate({key: value for key, value in sizes.items() if key in family.choices})
        model = ReplacedTokenModel(family, model.config, params.generator_share, choices, seed=0)
    ids = ids_of(family, **(masking or {}))
    return model, build_objective(family, family.objective, params, ids, TEXTS, model.config, chunked_from, z_loss)


def packed(lengths: list[int], generator: np.random.Generator, rows: int = 1, context: int = CONTEXT) -> Batch:
    """Rows of documents of `lengths`, each begun by the start token, of random letters; the rest is padding."""
    documents = []
    for _ in range(rows):
        letters = [generator.integers(FIRST, VOCABULARY, size=length) for length in lengths]
        documents.append([np.concatenate([[START], text[1:]]) for text in letters])
    return batch_of(documents, context)


def batch_of(documents: list[list[Int64]], context: int = CONTEXT) -> Batch:
    """Rows of the given documents; after each comes the start token."""
    shape = (len(documents), context)
    inputs, labels = np.full(shape, PAD, dtype=np.int64), np.full(shape, IGNORE_INDEX, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    for number, row in enumerate(documents):
        at = 0
        for text in row:
            inputs[number, at : at + len(text)] = text
            labels[number, at : at + len(text)] = [*text[1:], START]
            positions[number, at : at + len(text)] = np.arange(len(text))
            at += len(text)
        positions[number, at:] = np.arange(context - at)
    return Batch(inputs, positions, labels)


def tensors(inputs: dict[str, Int64]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in inputs.items()}


def loss_of(model: Any, objective: Objective, batch: Batch, seed: int = 0, step: int = 0) -> torch.Tensor:
    """The loss of a step on one batch, as the loop has it."""
    rows = len(batch.input_ids)
    inputs = objective.collate(batch, row_generators(seed, step, range(rows)))
    return joined(objective, *objective.nats(model, tensors(inputs)), max(objective.targets(inputs), 1), rows)


def joined(
    objective: Objective, nats: torch.Tensor, extras: dict[str, torch.Tensor], targets: int, rows: int
) -> torch.Tensor:
    """The loss of nats and extras over a global batch of `targets` and `rows`."""
    loss = nats.sum() / targets
    for name, extra in extras.items():
        loss = loss + objective.extra_weights[name] * extra / (targets if name in PER_TARGET else rows)
    return loss
