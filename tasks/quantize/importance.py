"""Which inputs of a matrix matter: the mean square that each column is multiplied with, over training text.

It is what llama.cpp calls an importance matrix (tools/imatrix of github.com/ggml-org/llama.cpp): an error in a column
whose input is always small costs little, so the scales of a block are chosen for the others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from tasks.core.progress import Progress
from tasks.documents.shards import read_shard, shard_paths
from tasks.held_out.split import TRAIN
from tasks.model.batches import longest_first
from tasks.tokens.chat_encoder import ChatEncoder

STEPS_AN_OCTAVE = 8
"""Importance is rounded to steps of 9%, far finer than it is known: the last bit of a sum, which other threads change, then
hardly ever changes a file."""
ROWS_AT_ONCE = 256
Importance = Mapping[str, npt.NDArray[np.float32]]
"""By the name of a matrix in transformers, [columns]."""


def calibration_sequences(
    encoder: ChatEncoder, conversations: Path | None, documents: Path, tokens: int, context: int
) -> list[list[int]]:
    """About `tokens` tokens of training text in sequences of at most `context`, as many from each shard: the openings of
    conversations in the folder `conversations`, as the model was tuned on them, or, where that is None or empty, of documents.
    """
    chats = shard_paths(conversations) if conversations is not None else []
    kept = _openings((_conversations(encoder, path) for path in chats), len(chats), tokens, context)
    if kept:
        return kept
    texts = shard_paths(documents)
    return _openings((_documents(encoder, path) for path in texts), len(texts), tokens, context)


def _openings(shards: Iterable[Iterator[list[int]]], count: int, tokens: int, context: int) -> list[list[int]]:
    kept = []
    for sequences in shards:
        room = -(-tokens // count)
        for ids in sequences:
            taken = ids[: min(context, room)]
            kept.append(taken)
            room -= len(taken)
            if not room:
                break
    return kept


def _conversations(encoder: ChatEncoder, path: Path) -> Iterator[list[int]]:
    table = read_shard(path, ["messages"])["messages"]
    for first in range(0, len(table), ROWS_AT_ONCE):
        for turns in encoder.turns(table.slice(first, ROWS_AT_ONCE).to_pylist()):
            yield encoder.join(turns).ids


def _documents(encoder: ChatEncoder, path: Path) -> Iterator[list[int]]:
    table = read_shard(path, ["text", "split"])
    texts = table.filter(pc.equal(table["split"], TRAIN))["text"]
    for first in range(0, len(texts), ROWS_AT_ONCE):
        for ids in encoder.texts([text or "" for text in texts.slice(first, ROWS_AT_ONCE).to_pylist()]):
            yield [encoder.start, *ids]


def column_importance(model: Any, sequences: Sequence[Sequence[int]], pad: int) -> Importance:
    """Of each matrix of a linear layer, by its name in the model: the mean square of its input, float32 [columns].

    Experts, which are no modules of their own in transformers, have none.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    sums: dict[str, Any] = {}
    real = torch.ones(0)

    def hook(name: str) -> Any:
        def add(_: Any, given: tuple[Any, ...]) -> None:
            inputs = given[0].reshape(-1, given[0].shape[-1])
            if inputs.shape[0] == real.numel():
                inputs = inputs[real.flatten()]
            sums[name] = sums.get(name, 0) + inputs.double().square().sum(0)

        return add

    layers = {
        f"{name}.weight": part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear | Conv1D)
    }
    hooks = [part.register_forward_pre_hook(hook(name)) for name, part in layers.items()]
    total = sum(map(len, sequences))
    try:
        with Progress("weigh columns", total, "tokens") as progress, torch.inference_mode():
            for batch in longest_first(sequences, len):
                longest = len(batch[0])
                rows = torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids in batch])
                real = torch.tensor([[True] * len(ids) + [False] * (longest - len(ids)) for ids in batch])
                model(input_ids=rows, use_cache=False)
                progress.advance(sum(map(len, batch)))
    finally:
        for each in hooks:
            each.remove()
    return {name: rounded((value / max(total, 1)).numpy()) for name, value in sums.items()}


def rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """To the nearest step of an octave; a column that is always 0 takes the least of the others, since ggml divides by sums."""
    positive = values[values > 0]
    least = positive.min() if len(positive) else 1.0
    steps = np.round(np.log2(np.maximum(values, least)) * STEPS_AN_OCTAVE) / STEPS_AN_OCTAVE
    return np.exp2(steps).astype(np.float32)
