"""Validation: bits per byte of held-out text, comparable over tokenizers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tasks.pretrain.data_loader import IGNORE_INDEX, Batch, Int64, PackedDataset, evenly_spaced
from tasks.pretrain.distributed import ProcessGroup, StopFlag


class Validation:
    """Rows of the validation split, spread evenly over it, `wanted_tokens` at most."""

    def __init__(
        self, data: PackedDataset, token_bytes: Int64, document_start: int, wanted_tokens: int, micro_rows: int
    ) -> None:
        self.data, self.token_bytes, self.document_start, self.micro_rows = (
            data,
            token_bytes,
            document_start,
            micro_rows,
        )
        self.rows = evenly_spaced(len(data), max(1, wanted_tokens // data.context_length))

    def measure(
        self, nats: Callable[[Batch], torch.Tensor], engine: Any, group: ProcessGroup, stop: StopFlag
    ) -> tuple[bool, float | None]:
        """(whether it was measured to the end, bits per byte or None without rows). Collective.

        Bits per byte = nats / ln 2 / UTF-8 bytes, both summed over the tokens of the text; that a document ends is no
        text. Ranks share the rows, and agree to break off when one of them was asked to stop.
        """
        if not len(self.rows):
            return True, None
        engine.eval()
        total_nats = total_bytes = 0.0
        try:
            for start in range(0, len(self.rows), self.micro_rows * group.size):
                here = start + group.rank * self.micro_rows
                rows = self.rows[here : here + self.micro_rows]
                batch = self.data.batch(rows if len(rows) else self.rows[:1])  # ZeRO-3 needs every rank in each pass
                batch.labels[batch.labels == self.document_start] = IGNORE_INDEX
                if not len(rows):
                    batch.labels[:] = IGNORE_INDEX
                with torch.no_grad():
                    total_nats += float(nats(batch).double().sum())
                scored = batch.labels[batch.labels != IGNORE_INDEX]
                total_bytes += float(np.sum(self.token_bytes[scored]))
                if group.all_reduce_sum(float(stop.raised))[0]:
                    return False, None
        finally:
            engine.train()
        total_nats, total_bytes = group.all_reduce_sum(total_nats, total_bytes)
        return True, total_nats / math.log(2) / total_bytes if total_bytes else None
