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
    rows = check_batch(params, context_length, ranks)
    there = len(np.load(pack / "train" / "rows.npy", mmap_mode="r")) - 1
    if there < rows:
        raise UserError(
            f"{pack}: has {there} rows to train on, a step takes {rows}. Lower pretrain.global_batch_tokens to at most "
            f"{there // ranks * ranks * context_length}, or add text (scrape.sources)"
        )
    for split in ("train", "validation"):
        _check_tokens(pack / split / "tokens.bin", packed["dtype"], int(packed["vocabulary_size"]))


def check_batch(params: "PlannedParams", context_length: int, ranks: int) -> int:
    """Check that a step is whole rows that the ranks can share; returns how many.

    Raises:
        UserError: it is not.
    """
    rows, rest = divmod(params.global_batch_tokens, context_length)
    if rest or not rows:
        raise UserError(
            f"params.yaml: pretrain.global_batch_tokens: must be a multiple of pack.context_length ({context_length}), "
            f"got {params.global_batch_tokens}"
        )
    if rows % ranks:
        raise UserError(
            f"params.yaml: pretrain.global_batch_tokens: {params.global_batch_tokens} tokens are {rows} rows, which "
            f"{ranks} ranks cannot share evenly. Use a multiple of {ranks * context_length}, or other ranks in execution.yaml"
        )
    return rows


def rows_at_once(most: int, rank_rows: int) -> int:
    """Rows of a micro-batch: at most `most`, and a divisor of the rows that a rank takes in a step."""
    return max(size for size in range(1, min(most, rank_rows) + 1) if rank_rows % size == 0)


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
