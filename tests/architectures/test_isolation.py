"""Leaks: in every family, what a model says of a document does not depend on the documents beside it in the row."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from tasks.architectures.building.isolation import isolating_arguments
from tasks.architectures.families.table import FAMILIES
from tasks.pretrain.data_loader import IGNORE_INDEX, Batch
from tasks.pretrain.objectives.objective import row_generators
from tests.helpers.architectures import CONTEXT, packed, tensors, tiny, trained_pair

LENGTHS = [11, 2, 12, 4]
TOLERANCE = 1e-4
PACKED = [name for name, family in FAMILIES.items() if family.isolation != "rows"]


def choices_of(name: str) -> list[dict[str, object]]:
    """The family's own, and each choice that changes what attention sees."""
    family = FAMILIES[name]
    windows = [{"sliding_window": 6}] if "sliding_window" in family.choices else []
    tables = [{"positions": "sinusoidal"}] if "sinusoidal" in family.positions else []
    return [{}, *windows, *tables]


@pytest.mark.parametrize(("name", "choices"), [(name, choices) for name in PACKED for choices in choices_of(name)])
def test_documents_of_a_row_do_not_see_each_other(name: str, choices: dict[str, object]) -> None:
    """With wide first weights, so that a leak would show; the naive way, a row as one text, leaks in all of them."""
    model = tiny(name, layers=4, init_std=0.2, **choices).eval()
    batch = packed(LENGTHS, np.random.default_rng(0))
    tokens, positions = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.position_ids)
    arguments = isolating_arguments(FAMILIES[name], model.config, positions, torch.float32)
    with torch.no_grad():
        row, naive = model(input_ids=tokens, **arguments).logits, model(input_ids=tokens).logits
        at = 0
        leaked = 0.0
        for length in LENGTHS:
            alone = model(input_ids=tokens[:, at : at + length]).logits
            assert (row[:, at : at + length] - alone).abs().max() < TOLERANCE
            leaked = max(leaked, float((naive[:, at : at + length] - alone).abs().max()))
            at += length
    assert leaked > 0.1


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loss_of_a_packed_row_is_that_of_its_documents(name: str) -> None:
    """As the loop has it, by way of collate and nats: hidden tokens are the same ones, since labels say which they are."""
    wide = {"init_std": 0.2} if "init_std" in FAMILIES[name].choices else {}
    model, objective = trained_pair(name, **wide)
    model.eval()
    batch = packed(LENGTHS, np.random.default_rng(1))
    inputs = objective.collate(batch, row_generators(0, 0, [0]))
    with torch.no_grad():
        together = objective.nats(model, tensors(inputs))[0]
        apart = [objective.nats(model, tensors(part))[0] for part in documents(inputs)]
    assert torch.count_nonzero(together) > 3
    assert together.sum().item() == pytest.approx(sum(part.sum().item() for part in apart), abs=TOLERANCE)


def documents(inputs: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Collated inputs of one packed row, or of the rows that became of it, a document each."""
    if "position_ids" not in inputs:
        parts = [{name: array[row : row + 1] for name, array in inputs.items()} for row in range(len(inputs["labels"]))]
        for part in parts:  # without the padding of the longest
            for length, names in (
                (int(part["attention_mask"].sum()), ("input_ids", "attention_mask")),
                (int((part["labels"] != IGNORE_INDEX).sum()), ("decoder_input_ids",)),
            ):
                for name in names:
                    if name in part:
                        part[name] = part[name][:, :length]
            longest = part.get("decoder_input_ids", part["input_ids"]).shape[1]
            part["labels"] = part["labels"][:, :longest]
        return parts
    starts = [0, *np.cumsum(LENGTHS).tolist()]
    rows = {name: array for name, array in inputs.items() if array.ndim > 1}
    parts = [{name: array[:, start:end] for name, array in rows.items()} for start, end in pairwise(starts)]
    return [{**part, "document_starts": np.array([0, part["labels"].size])} for part in parts]


def test_a_llama_reaches_over_documents_when_an_attention_mask_is_given() -> None:
    """What transformers does of itself: a mask of ones, which collators add, takes the isolation by positions away."""
    model = tiny("llama", init_std=0.2).eval()
    batch = packed([16, 16], np.random.default_rng(0))
    tokens, positions = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.position_ids)
    with torch.no_grad():
        apart = model(input_ids=tokens, position_ids=positions, use_cache=False).logits
        mask = torch.ones_like(tokens)
        leaking = model(input_ids=tokens, position_ids=positions, attention_mask=mask, use_cache=False).logits
    assert (apart - leaking)[:, 16:].abs().max() > 0.1


def test_rows_are_taken_apart_into_documents() -> None:
    _, objective = trained_pair("deberta")
    batch = packed(LENGTHS, np.random.default_rng(2), rows=2)
    inputs = objective.collate(batch, row_generators(0, 0, [0, 1]))
    assert inputs["attention_mask"].sum(1).tolist() == LENGTHS * 2
    assert inputs["input_ids"].shape == (8, max(LENGTHS))
    assert inputs["origins"].tolist() == [0, 11, 13, 25, 32, 43, 45, 57]
    nothing = Batch(batch.input_ids, batch.position_ids, np.full((2, CONTEXT), IGNORE_INDEX))
    assert objective.targets(objective.collate(nothing, row_generators(0, 0, [0, 1]))) <= 1
