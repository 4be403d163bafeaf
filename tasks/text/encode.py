"""Documents to token ids. Text is text here: what spells a control token is encoded letter by letter."""

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tasks.core.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def load_tokenizer(folder: Path) -> "Tokenizer":
    """The tokenizer in `folder`, set so that encoding never gives a control token.

    Raises:
        UserError: `tokenizer.json` is missing or damaged.
    """
    if multiprocessing.parent_process() is not None:  # in a worker the shards are the parallelism
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises plain Exception
        raise UserError(f"{folder}: holds no readable tokenizer ({error}). Make it: dvc repro tokenizer") from None
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode_documents(tokenizer_folder: Path, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
    """The ids of each text, uint32 [tokens], nothing added before or after.

    A text that spells `<|endoftext|>` or another control token gives the ids of its characters, never that token's.

    Raises:
        UserError: the folder holds no readable tokenizer.
    """
    encodings = load_tokenizer(tokenizer_folder).encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]
