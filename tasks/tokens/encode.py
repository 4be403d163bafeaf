"""Documents to token ids. Text is text here: what spells a control token is encoded letter by letter.

The engine is tiktoken where it gives the same ids (`fast_bpe`), and Hugging Face's tokenizers otherwise.
"""

import functools
import multiprocessing
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tasks.core.errors import UserError
from tasks.tokens.fast_bpe import is_safe_for_tiktoken, tiktoken_encoding

if TYPE_CHECKING:
    from tiktoken import Encoding
    from tokenizers import Tokenizer

Ids = npt.NDArray[np.uint32]


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


def encode_documents(tokenizer_folder: Path, texts: Sequence[str]) -> list[Ids]:
    """The ids of each text, uint32 [tokens], nothing added before or after.

    A text that spells `<|endoftext|>` or another control token gives the ids of its characters, never that token's.

    Raises:
        UserError: the folder holds no readable tokenizer.
    """
    tokenizer, fast = _load_engines(tokenizer_folder)
    if fast is None:
        return encode_with_tokenizers(tokenizer, texts)
    return [
        fast.encode_to_numpy(text, disallowed_special=())
        if is_safe_for_tiktoken(text)
        else encode_with_tokenizers(tokenizer, [text])[0]
        for text in texts
    ]


def round_trip_text(tokenizer: "Tokenizer", text: str) -> str:
    """The text that comes back from its tokens: some tokenizers of others compose characters first (NFC), ours change nothing."""
    return unicodedata.normalize("NFC", text) if tokenizer.normalizer else text


def encode_with_tokenizers(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[Ids]:
    """The same by Hugging Face's tokenizers, whose ids are the ones that count."""
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]


def engine_name(tokenizer_folder: Path) -> str:
    """Which engine encodes with the tokenizer in the folder: `tiktoken` or `tokenizers`."""
    return "tokenizers" if _load_engines(tokenizer_folder)[1] is None else "tiktoken"


def _load_engines(folder: Path) -> tuple["Tokenizer", "Encoding | None"]:
    path = folder / "tokenizer.json"
    try:
        found = path.stat()
    except OSError:
        return load_tokenizer(folder), None  # which says what is wrong
    return _cached_engines(path.resolve(), found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=2)
def _cached_engines(path: Path, modified_ns: int, size: int) -> tuple["Tokenizer", "Encoding | None"]:
    tokenizer = load_tokenizer(path.parent)
    return tokenizer, tiktoken_encoding(path, tokenizer)
