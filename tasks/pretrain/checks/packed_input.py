"""What must hold of the packed rows before a process is started to train on them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.core.errors import UserError
from tasks.core.params import read_yaml

if TYPE_CHECKING:
    from tasks.model.start_from import ModelSource
    from tasks.pretrain.params import PlannedParams

TOKENS_AT_ONCE = 1 << 24


def check_rows(params: "PlannedParams", pack: Path, ranks: int, source: "ModelSource | None") -> None:
    """Check that a step is whole rows that the ranks can share, that there are enough, and that every token is one of the vocabulary.

    Raises:
        UserError: one of it does not hold.
    """
    packed = read_yaml(pack / "pack.json")  # JSON is YAML, and this reader explains what is wrong with a file
    context_length = int(packed["context_length"])
    if source and context_length > source.context_length:
        raise UserError(
            f"params.yaml: pack.context_length: {context_length} is more than the {source.context_length} tokens that "
            f"{params.start_from} reads. Allowed: up to {source.context_length}"
        )
    key, rows = check_batch(params, context_length, ranks)
    there = len(np.load(pack / "train" / "rows.npy", mmap_mode="r")) - 1
    if there < rows:
        raise UserError(
            f"{pack}: has {there} rows to train on, a step takes {rows}. Lower {key} to at most "
            f"{there // ranks * ranks * context_length}, or add text (scrape.sources)"
        )
    for split in ("train", "validation"):
        _check_tokens(pack / split / "tokens.bin", packed["dtype"], int(packed["vocabulary_size"]))


def check_batch(params: "PlannedParams", context_length: int, ranks: int) -> tuple[str, int]:
    """Check that each step is whole rows that the ranks can share, and that shorter ones can be cut of them.

    Returns the key of the largest batch, and its rows.

    Raises:
        UserError: it is not.
    """
    _check_contexts(params, context_length)
    batches = {"pretrain.global_batch_tokens": params.global_batch_tokens}
    for number, phase in enumerate(params.batch_schedule or ()):
        batches[f"pretrain.batch_schedule.{number}.global_batch_tokens"] = phase.global_batch_tokens
    for key, tokens in batches.items():
        rows, rest = divmod(tokens, context_length)
        if rest or not rows:
            raise UserError(
                f"params.yaml: {key}: must be a multiple of pack.context_length ({context_length}), got {tokens}"
            )
        if rows % ranks:
            raise UserError(
                f"params.yaml: {key}: {tokens} tokens are {rows} rows, which {ranks} ranks cannot share evenly. Use a multiple "
                f"of {ranks * context_length}, or other ranks in execution.yaml"
            )
    key = max(batches, key=lambda name: batches[name])
    return key, batches[key] // context_length


def _check_contexts(params: "PlannedParams", context_length: int) -> None:
    for number, phase in enumerate(params.context_schedule or ()):
        if phase.context_length >= context_length or context_length % phase.context_length:
            raise UserError(
                f"params.yaml: pretrain.context_schedule.{number}.context_length: must divide pack.context_length "
                f"({context_length}) and be less, got {phase.context_length}"
            )


def _check_tokens(path: Path, dtype: str, vocabulary_size: int) -> None:
    if not path.exists() or not path.stat().st_size:
        return
    tokens = np.memmap(path, dtype=dtype, mode="r")
    for start in range(0, len(tokens), TOKENS_AT_ONCE):
        part = tokens[start : start + TOKENS_AT_ONCE]
        place = int(part.argmax())
        if int(part[place]) >= vocabulary_size:
            raise UserError(
                f"{path}: token {start + place} is {int(part[place])}, but the vocabulary has {vocabulary_size} tokens. Make it "
                "again: dvc repro --force pack"
            )
