"""The data loader: packed rows as batches, in an order that depends on the seed and the step alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.architectures.step_schedule import StepSchedule
from tasks.core.errors import UserError
from tasks.documents.parquet import read_table

IGNORE_INDEX = -100
"""The label of a position that has nothing to predict (the default `ignore_index` of torch's cross-entropy)."""
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Rows for the model, each int64 [rows, context_length].

    `position_ids` restart with each document, and neither an attention mask nor a cache goes with them (`use_cache` is
    True by default): by that transformers keeps the documents of a row apart. `labels` are the tokens to predict,
    already shifted; `IGNORE_INDEX` in padding.
    """

    input_ids: Int64
    position_ids: Int64
    labels: Int64


class PackedDataset:
    """One split of `data/pack`: memory-mapped tokens and the rows made of them."""

    def __init__(self, pack: Path, split: str, pad: int) -> None:
        description: dict[str, Any] = json.loads((pack / "pack.json").read_text())
        folder = pack / split
        self.pad, self.context_length = pad, int(description["context_length"])
        self.tokens = np.memmap(folder / "tokens.bin", dtype=description["dtype"], mode="r")
        self.folder = folder
        self.segments: Int64 = np.load(folder / "segments.npy", mmap_mode="r")
        self.rows: Int64 = np.load(folder / "rows.npy", mmap_mode="r")
        self.offsets: Int64 = np.load(folder / "offsets.npy", mmap_mode="r")
        if len(self.tokens) != self.offsets[-1] + 1:
            raise UserError(
                f"{folder / 'tokens.bin'}: holds {len(self.tokens)} tokens, but the documents in offsets.npy have "
                f"{self.offsets[-1] + 1}. Restore it: dvc checkout --force {pack}"
            )

    def __len__(self) -> int:
        return len(self.rows) - 1

    def batch(self, rows: Int64) -> Batch:
        """The given rows. A document that goes on in another row still predicts its next token here."""
        shape = (len(rows), self.context_length)
        inputs = np.full(shape, self.pad, dtype=np.int64)
        labels = np.full(shape, IGNORE_INDEX, dtype=np.int64)
        positions = np.zeros(shape, dtype=np.int64)
        for number, row in enumerate(rows):
            at = 0
            for start, length in self.segments[self.rows[row] : self.rows[row + 1]].tolist():
                inputs[number, at : at + length] = self.tokens[start : start + length]
                labels[number, at : at + length] = self.tokens[start + 1 : start + length + 1]
                positions[number, at : at + length] = np.arange(length)
                at += length
            positions[number, at:] = np.arange(self.context_length - at)
        return Batch(inputs, positions, labels)

    def documents(self, row: int) -> Int64:
        """int64 [context_length]: the number of the document at each place of a row; -1 in padding."""
        numbers = np.full(self.context_length, -1, dtype=np.int64)
        at = 0
        for start, length in self.segments[self.rows[row] : self.rows[row + 1]].tolist():
            numbers[at : at + length] = np.searchsorted(self.offsets, start, side="right") - 1
            at += length
        return numbers

    def describe(self, rows: Int64, most: int = 5) -> str:
        """The ids of documents in the given rows, for a message: the first `most` and how many more."""
        starts = np.concatenate([self.segments[self.rows[row] : self.rows[row + 1], 0] for row in rows])
        numbers = np.unique(np.searchsorted(self.offsets, starts, side="right") - 1)
        table = self.folder / "documents.parquet"
        if not table.exists():
            return f"documents number {', '.join(map(str, numbers[:most]))} and {max(0, len(numbers) - most)} more"
        ids = read_table(table, columns=["id"])["id"].take(numbers[:most].tolist()).to_pylist()
        more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
        return f"its documents are {', '.join(ids)}{more}"


class RowSampler:
    """Which rows step s trains on: a stateless function of (seed, s), so that a resume needs no state of the data.

    Each epoch is a permutation of its own; the batch of a step is the same for any number of ranks. Steps take the rows one after
    the other, however many each takes (`batch_rows`): none twice in an epoch, none left out.
    """

    def __init__(self, rows: int, batch_rows: StepSchedule, seed: int) -> None:
        self.rows, self.batch_rows, self.seed = rows, batch_rows, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def rows_of_step(self, step: int) -> Int64:
        """int64 [rows of the batch]: the rows of step `step`, counted from 0."""
        places = range(self.batch_rows.before(step), self.batch_rows.before(step + 1))
        return np.array([self._row(index) for index in places], dtype=np.int64)

    def _row(self, index: int) -> int:
        epoch, place = divmod(index, self.rows)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        return int(self._permutation[place])


def evenly_spaced(rows: int, wanted: int) -> Int64:
    """At most `wanted` of `rows` rows, spread evenly, always the same."""
    count = min(rows, wanted)
    return np.arange(count, dtype=np.int64) * rows // max(count, 1)


def split_rows(rows: int, most: int) -> tuple[int, int]:
    """`rows` of a rank as equal micro-batches of at most `most`: (rows of each, how many)."""
    size = max(size for size in range(1, min(most, rows) + 1) if rows % size == 0)
    return size, rows // size
