"""Denoising by text infilling: spans become one mask each, and the whole document is written anew (BART, arXiv:1910.13461, 2.2).

Spans are of Poisson length, 0 included, which puts a mask where nothing is missing. Sentences are not shuffled: of the paper's
transformations infilling alone is the best or close to it (table 1).
"""

from collections.abc import Sequence

import numpy as np

from tasks.pretrain.data_loader import IGNORE_INDEX, Batch, Int64
from tasks.pretrain.objectives.document_rows import documents_of, origins, pad_rows, present
from tasks.pretrain.objectives.objective import Arrays
from tasks.pretrain.objectives.sequence_to_sequence import SequenceToSequence


class Denoising(SequenceToSequence):
    """`fraction` of a document's tokens is masked in spans of a mean of `mean_span`."""

    def collate(self, batch: Batch, generators: Sequence[np.random.Generator]) -> Arrays:
        """A document a row: the encoder reads it with masks, the decoder as it is, and predicts its next tokens."""
        pieces = documents_of(batch)
        whole = [batch.input_ids[piece.row, piece.start : piece.end] for piece in pieces]
        labels = [batch.labels[piece.row, piece.start : piece.end] for piece in pieces]
        masked = [
            infill(tokens, self.fraction, self.mean_span, self.ids.mask, generators[piece.row])
            for tokens, piece in zip(whole, pieces, strict=True)
        ]
        return {
            "input_ids": pad_rows(masked, self.ids.pad),
            "attention_mask": present(masked),
            "decoder_input_ids": pad_rows(whole, self.ids.pad),
            "labels": pad_rows(labels, IGNORE_INDEX),
            "origins": origins(pieces, batch.input_ids.shape[1]),
        }


def infill(tokens: Int64, fraction: float, mean_span: float, mask: int, generator: np.random.Generator) -> Int64:
    """`tokens` with spans replaced by one mask each, `fraction` of them in all; the first, which begins the document, stays."""
    budget = round((len(tokens) - 1) * fraction)
    lengths: list[int] = []
    while budget > 0:
        lengths.append(min(int(generator.poisson(mean_span)), budget))
        budget -= lengths[-1]
    hidden = sum(lengths)
    while len(lengths) > hidden:  # the row must not outgrow the context: masks where nothing is missing go first
        lengths.remove(0)
    kept = len(tokens) - 1 - hidden
    # Spans stand at random among the tokens that stay: each in one of the kept + 1 gaps.
    gaps = np.sort(generator.integers(kept + 1, size=len(lengths)))
    parts, at, stayed = [tokens[:1]], 1, 0
    for gap, length in zip(gaps.tolist(), lengths, strict=True):
        parts += [tokens[at : at + gap - stayed], np.array([mask])]
        at += gap - stayed + length
        stayed = gap
    return np.concatenate([*parts, tokens[at:]])
