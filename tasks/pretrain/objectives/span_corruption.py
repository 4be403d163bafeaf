"""Span corruption: spans of a document are dropped and told after, each behind its sentinel (T5, arXiv:1910.10683, 3.1.4)."""

from collections.abc import Sequence

import numpy as np

from tasks.pretrain.data_loader import IGNORE_INDEX, Batch, Int64
from tasks.pretrain.objectives.document_rows import documents_of, origins, pad_rows, present
from tasks.pretrain.objectives.objective import Arrays
from tasks.pretrain.objectives.sequence_to_sequence import SequenceToSequence
from tasks.tokens.noise_spans import noise_spans


class SpanCorruption(SequenceToSequence):
    """`fraction` of a document's tokens in spans of `mean_span`; the decoder begins with the padding's id, as T5's does."""

    def collate(self, batch: Batch, generators: Sequence[np.random.Generator]) -> Arrays:
        """A document a row: `input_ids`, `attention_mask`, and `decoder_input_ids` with `labels`, which end in the document's end."""
        sources, targets = [], []
        pieces = documents_of(batch)
        for piece in pieces:
            tokens = batch.input_ids[piece.row, piece.start : piece.end]
            source, target = self._corrupt(tokens, generators[piece.row])
            sources.append(source)
            targets.append(target)
        labels = pad_rows(targets, IGNORE_INDEX)
        shifted = pad_rows([np.concatenate([[self.ids.pad], target[:-1]]) for target in targets], self.ids.pad)
        shifted[shifted == IGNORE_INDEX] = self.ids.pad
        return {
            "input_ids": pad_rows(sources, self.ids.pad),
            "attention_mask": present(sources),
            "decoder_input_ids": shifted,
            "labels": labels,
            "origins": origins(pieces, batch.input_ids.shape[1]),
        }

    def _corrupt(self, tokens: Int64, generator: np.random.Generator) -> tuple[Int64, Int64]:
        """(what is left, with a sentinel for each span; sentinels with what they stand for, and the end)."""
        end = [self.ids.document_start]
        noise = noise_spans(len(tokens), self.fraction, self.mean_span, generator)
        if not len(noise):
            return np.concatenate([tokens, end]), np.array([IGNORE_INDEX])
        source: list[Int64] = []
        target: list[Int64] = []
        at = 0
        for sentinel, (start, stop) in zip(self.ids.sentinels, noise, strict=False):
            source += [tokens[at:start], np.array([sentinel])]
            target += [np.array([sentinel]), tokens[start:stop]]
            at = stop
        return np.concatenate([*source, tokens[at:], end]), np.concatenate([*target, end])


def most_spans(context_length: int, fraction: float, mean_span: float) -> int:
    """How many sentinels a document of a whole row needs."""
    dropped = min(max(round(context_length * fraction), 1), context_length - 1)
    return max(round(dropped / mean_span), 1)
