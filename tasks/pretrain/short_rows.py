"""Shorter rows at first: the same tokens of a step as more and shorter rows, so that attention costs less and reaches less far.

Sequence length warm-up (Li et al. 2022, arXiv:2108.06084), by rows that are cut as in SkyLadder (Zhu et al. 2025, arXiv:2503.15450).
"""

import numpy as np

from tasks.pretrain.data_loader import IGNORE_INDEX, Batch


def cut_rows(batch: Batch, context_length: int) -> Batch:
    """Rows cut into equal ones of `context_length` tokens, which divides theirs; those of one row follow each other.

    A document that is cut begins again at position 0, as one that pack has cut does; each of its tokens still predicts the next.
    """
    if batch.input_ids.shape[1] == context_length:
        return batch
    inputs, old, labels = (
        array.reshape(-1, context_length) for array in (batch.input_ids, batch.position_ids, batch.labels)
    )
    places = np.arange(context_length)
    begins = np.where(old == 0, places, 0)  # of a document in its row; one that is cut begins with the row
    return Batch(inputs, places - np.maximum.accumulate(begins, axis=1), labels)


def places_of(rows: list[int], parts: int) -> list[int]:
    """The places, in a global batch whose rows are cut into `parts`, of what the given rows of the whole batch become."""
    return [row * parts + part for row in rows for part in range(parts)]


def filled_rows(batch: Batch) -> int:
    """How many rows are not padding alone."""
    return int((batch.labels != IGNORE_INDEX).any(1).sum())
