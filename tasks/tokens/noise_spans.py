"""Noise spans: which spans of a document are dropped (T5, arXiv:1910.10683, 3.1.4)."""

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


def noise_spans(length: int, fraction: float, mean_span: float, generator: np.random.Generator) -> Int64:
    """Spans to drop of `length` tokens, int64 [spans, 2] (start, end): `fraction` of them in all, at random places.

    As in T5 the numbers of dropped tokens and of spans are fixed by the length; dropped and kept tokens are each parted at random
    and take turns, beginning with what is kept, and no part is empty. Unlike there, something may be kept behind the last span:
    else the one span of a short document were always its end.
    """
    dropped = min(max(round(length * fraction), 1), length - 1)
    if dropped < 1:
        return np.empty((0, 2), dtype=np.int64)
    spans = min(max(round(dropped / mean_span), 1), length - dropped)
    kept_lengths = _parts(length - dropped + 1, spans + 1, generator)[:-1]  # the last one may be empty
    span_lengths = _parts(dropped, spans, generator)
    ends = np.cumsum(kept_lengths + span_lengths)
    return np.stack([ends - span_lengths, ends], 1)


def _parts(total: int, parts: int, generator: np.random.Generator) -> Int64:
    """`total` as a sum of `parts` positive numbers, each way of parting as likely as any other."""
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
