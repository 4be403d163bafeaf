"""Rows as the model sees them: every token once, every row once an epoch, documents that do not see each other."""

import numpy as np
import torch

from tasks.architectures.building.create import create_config, create_model
from tasks.architectures.building.special_ids import special_ids
from tasks.architectures.families.choices import Architecture
from tasks.architectures.families.table import FAMILIES
from tasks.architectures.step_schedule import StepSchedule
from tasks.pretrain.data_loader import IGNORE_INDEX, PackedDataset, RowSampler
from tests.helpers.pretraining import (
    CONTEXT,
    VOCABULARY,
    params,
)


def test_rows_are_the_stream(inputs):
    data = PackedDataset(inputs["pack"], "train", pad=1)
    batch = data.batch(np.arange(len(data)))
    assert np.count_nonzero(batch.labels != IGNORE_INDEX) == len(data.tokens) - 1  # every token but the first, once
    starts = batch.position_ids == 0
    for row in range(len(data)):
        inside = ~starts[row, 1:] & (batch.labels[row, 1:] != IGNORE_INDEX)
        assert (batch.labels[row, :-1][inside] == batch.input_ids[row, 1:][inside]).all()
    padding = batch.labels == IGNORE_INDEX
    assert (batch.input_ids[padding] == 1).all()


def test_each_epoch_visits_every_row_once():
    order = RowSampler(rows=10, batch_rows=StepSchedule(4), seed=3)
    seen = np.concatenate([order.rows_of_step(step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert (RowSampler(10, StepSchedule(4), 3).rows_of_step(4) == seen[16:]).all()  # without having walked there
    assert (RowSampler(10, StepSchedule(4), 4).rows_of_step(0) != seen[:4]).any()


def test_batches_that_grow_take_the_same_rows_in_the_same_order():
    """Across an epoch's border too, and asked for in any order."""
    grown, even = RowSampler(10, StepSchedule(6, ((3, 1), (5, 4))), 3), RowSampler(10, StepSchedule(1), 3)
    taken = {step: grown.rows_of_step(step).tolist() for step in (7, 0, 4, 2, 6, 1, 5, 3)}
    assert [len(taken[step]) for step in range(8)] == [1, 1, 1, 4, 4, 6, 6, 6]
    together = np.concatenate([taken[step] for step in range(8)])
    assert together.tolist() == [even.rows_of_step(step)[0] for step in range(29)]


def test_documents_in_a_row_do_not_see_each_other(inputs):
    family, choices = FAMILIES["llama"], Architecture()
    config = create_config(
        family, params().shape(VOCABULARY, CONTEXT), choices, special_ids("causal", VOCABULARY, 0, 1)
    )
    model = create_model(family, "causal", config, choices, seed=0).eval()
    data = PackedDataset(inputs["pack"], "train", pad=1)
    number = next(row for row in range(len(data)) if data.rows[row + 1] - data.rows[row] > 1)
    batch = data.batch(np.array([number]))
    border = int(np.flatnonzero(batch.position_ids[0] == 0)[1])
    tokens, positions = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.position_ids)
    changed = tokens.clone()
    changed[0, :border] = 6 + (changed[0, :border] + 1) % (VOCABULARY - 6)
    with torch.no_grad():
        before, after = (model(input_ids=t, position_ids=positions, use_cache=False).logits for t in (tokens, changed))
        alone = model(input_ids=tokens[:, border:], position_ids=positions[:, border:], use_cache=False).logits
    assert (before[:, :border] - after[:, :border]).abs().max() > 0
    assert (before[:, border:] - after[:, border:]).abs().max().item() == 0.0
    assert torch.allclose(before[:, border:], alone, atol=1e-5)
