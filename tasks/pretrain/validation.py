"""Validation: bits per byte of held-out text, in all and by source, comparable over tokenizers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tasks.documents.parquet import read_table
from tasks.pretrain.data_loader import IGNORE_INDEX, Int64, PackedDataset, evenly_spaced
from tasks.pretrain.distributed import ProcessGroup, StopFlag
from tasks.pretrain.launching import heartbeat
from tasks.pretrain.objectives.objective import Arrays, Objective, row_generators


class Validation:
    """Rows of the validation split, spread evenly over it, `wanted_tokens` at most; always the same, in the same order.

    Attributes:
        by_source: bits per byte of each source, of the last measurement.
    """

    def __init__(
        self,
        data: PackedDataset,
        objective: Objective,
        token_bytes: Int64,
        document_start: int,
        wanted_tokens: int,
        micro_rows: int,
    ) -> None:
        self.data, self.token_bytes, self.document_start = data, token_bytes, document_start
        self.objective, self.micro_rows = objective, micro_rows
        self.rows = evenly_spaced(len(data), max(1, wanted_tokens // data.context_length))
        table = data.folder / "documents.parquet"
        sources = read_table(table, columns=["source"])["source"].to_pylist() if table.exists() else []
        self.names = sorted(set(sources))
        numbers = {name: number for number, name in enumerate(self.names)}
        self._source_of = np.array([*(numbers[source] for source in sources), len(self.names)])  # the last: none
        self.by_source: dict[str, float] = {}

    def measure(
        self, nats: Callable[[Arrays], torch.Tensor], engine: Any, group: ProcessGroup, stop: StopFlag
    ) -> tuple[bool, float | None]:
        """(whether it was measured to the end, bits per byte or None without rows). Collective.

        Bits per byte = nats / ln 2 / UTF-8 bytes, both summed over the tokens of the text that are to be predicted (where tokens
        are hidden those, the same ones each time); that a document ends is no text. Ranks share the rows, and agree to break off
        when one of them was asked to stop.
        """
        if not len(self.rows):
            return True, None
        engine.eval()
        sums = np.zeros((2, len(self.names) + 1))  # nats and bytes of each source
        try:
            for start in range(0, len(self.rows), self.micro_rows * group.size):
                here = start + group.rank * self.micro_rows
                rows = self.rows[here : here + self.micro_rows]
                there = rows if len(rows) else self.rows[:1]  # ZeRO-3 needs every rank in each pass
                inputs = self.objective.collate(self.data.batch(there), row_generators(0, 0, there.tolist()))
                labels = inputs["labels"]
                labels[(labels == self.document_start) | (labels >= len(self.token_bytes))] = IGNORE_INDEX
                if not len(rows):
                    labels[:] = IGNORE_INDEX
                with torch.no_grad():
                    lost = nats(inputs).double().cpu().numpy().reshape(-1)
                self._add(sums, rows, inputs, lost)
                heartbeat.beat()
                if group.all_reduce_sum(float(stop.raised))[0]:
                    return False, None
        finally:
            engine.train()
        summed = np.array(group.all_reduce_sum(*sums.reshape(-1).tolist())).reshape(sums.shape) / [[math.log(2)], [1]]
        self.by_source = {
            name: float(bits / size) for name, bits, size in zip(self.names, *summed[:, :-1], strict=True) if size
        }
        bits, size = summed.sum(1).tolist()
        return True, bits / size if size else None

    def _add(self, sums: Any, rows: Int64, inputs: Arrays, nats: Any) -> None:
        if not len(rows):
            return
        labels = inputs["labels"]
        scored = labels != IGNORE_INDEX
        documents = np.concatenate([self.data.documents(int(row)) for row in rows])
        if len(self._source_of) == 1:  # nothing is said of the documents
            documents[:] = -1
        if "origins" in inputs:
            documents = np.repeat(documents[inputs["origins"]], labels.shape[1])
        source = self._source_of[documents.reshape(labels.shape)[scored]]
        size = self.token_bytes[labels[scored]]
        sums[0] += np.bincount(source, nats[scored.reshape(-1)], sums.shape[1])
        sums[1] += np.bincount(source, size, sums.shape[1])
