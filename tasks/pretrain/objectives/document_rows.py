"""One document a row: packed rows taken apart, for families that cannot keep the documents of a row apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tasks.pretrain.data_loader import IGNORE_INDEX, Batch, Int64


@dataclass(frozen=True)
class Piece:
    """A document, or what of it is in this row: tokens `start` to `end` of row `row` of a batch."""

    row: int
    start: int
    end: int


def documents_of(batch: Batch) -> list[Piece]:
    """The pieces of documents in a batch, in order; padding is none."""
    pieces = []
    for row, positions in enumerate(batch.position_ids):
        borders = [*np.flatnonzero(positions == 0).tolist(), len(positions)]
        for start, end in pairwise(borders):
            if (batch.labels[row, start:end] != IGNORE_INDEX).any():
                pieces.append(Piece(row, start, end))
    return pieces or [Piece(0, 0, 1)]  # of nothing but padding one token, so that there is a row


def pad_rows(rows: Sequence[Int64], fill: int) -> Int64:
    """Rows of any length, filled up on the right: int64 [rows, longest]."""
    padded = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded


def present(rows: Sequence[Int64]) -> Int64:
    """An attention mask, int64 [rows, longest]: 1 where a row has a token, 0 where it is filled up."""
    return pad_rows([np.ones(len(row), dtype=np.int64) for row in rows], 0)


def origins(pieces: Sequence[Piece], context_length: int) -> Int64:
    """Of each piece the place of its first token among the tokens of the batch, row after row: int64 [pieces]."""
    return np.array([piece.row * context_length + piece.start for piece in pieces], dtype=np.int64)
