"""Rows that are cut: every token once, each predicting its next, no document seen by another."""

import numpy as np
import pytest
import torch

from tasks.pretrain.data_loader import IGNORE_INDEX, PackedDataset
from tasks.pretrain.objectives.document_rows import documents_of
from tasks.pretrain.objectives.objective import row_generators
from tasks.pretrain.short_rows import cut_rows, filled_rows, places_of
from tests.helpers.architectures import batch_of, tensors, trained_pair
from tests.helpers.pretraining import CONTEXT


@pytest.mark.parametrize("length", [4, 8, CONTEXT])
def test_every_token_once(inputs, length):
    data = PackedDataset(inputs["pack"], "train", pad=1)
    whole = data.batch(np.arange(len(data)))
    cut = cut_rows(whole, length)
    assert cut.input_ids.shape == (len(data) * CONTEXT // length, length)
    for name in ("input_ids", "labels"):
        assert (getattr(cut, name).ravel() == getattr(whole, name).ravel()).all()
    begins = (whole.position_ids.ravel() == 0) | (np.arange(whole.input_ids.size) % length == 0)
    assert ((cut.position_ids.ravel() == 0) == begins).all()
    follows = np.diff(cut.position_ids.ravel())
    assert (follows[~begins[1:]] == 1).all()
    pieces = np.zeros(cut.input_ids.shape, dtype=int)
    for piece in documents_of(cut):  # what families read that take one document a row
        pieces[piece.row, piece.start : piece.end] += 1
    assert (pieces[cut.labels != IGNORE_INDEX] == 1).all()
    assert filled_rows(cut) == (cut.labels != IGNORE_INDEX).any(1).sum() <= len(cut.labels)


def test_places_are_those_of_the_whole_batch_cut():
    assert places_of([0, 1, 2], 2) == places_of([0], 2) + places_of([1, 2], 2) == list(range(6))
    assert places_of([3, 5], 1) == [3, 5]


PIECES = [(0, 0, 8), (1, 0, 8), (2, 0, 4), (2, 4, 8), (3, 0, 6)]
"""Row, start and end of what documents of 20 and 10 tokens become in rows of 8; two of padding follow."""


@pytest.mark.parametrize("changed", [1, 2, 3])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "bert", "deberta", "t5"])
def test_pieces_do_not_see_each_other(name, changed):
    """A family of each kind of isolation: other tokens in one piece change what is told of that piece alone."""
    letters = np.random.default_rng(0).integers(6, 64, size=30)
    told = []
    for add in (0, 1):
        batch = cut_rows(batch_of([[np.array([0, *letters[1:20]]), np.array([0, *letters[21:]])]]), 8)
        assert [(piece.row, piece.start, piece.end) for piece in documents_of(batch)] == PIECES
        row, start, end = PIECES[changed]
        batch.input_ids[row, start + 1 : end] = 6 + (batch.input_ids[row, start + 1 : end] - 6 + add) % 58
        model, objective = trained_pair(name, {} if name in ("llama", "gpt2", "opt") else {"fraction": 0.5})
        given = objective.collate(batch, row_generators(0, 0, range(4)))
        given["labels"] = np.where(given["labels"] == IGNORE_INDEX, IGNORE_INDEX, 7)  # whatever follows
        with torch.no_grad():
            nats = objective.nats(model.eval(), tensors(given))[0].view(given["labels"].shape)
        told.append(list(nats) if "origins" in given else [nats[row, start:end] for row, start, end in PIECES])
    for number, (one, other) in enumerate(zip(*told, strict=True)):
        assert torch.allclose(one, other, atol=1e-6) == (number != changed), number
