"""The token file of `benchmarks.training`: human conversations (chitchat-dataset), or made-up ones, in each contender's form.

tokenizer/          byte-level BPE, trained on the training part
train.bin           uint16: the documents after one another, each led by its start token
held_out.npy        int64 [rows, context + 1]: held-out documents, each from its beginning, -1 where one has ended
token_bytes.npy     UTF-8 bytes of each token
pack/               the same training documents in rows, as tasks.pack leaves them
"""

import json
import random
import shutil
from pathlib import Path

import numpy as np

from tasks.pack.packing import pack_rows
from tasks.scrape.package_conversations import PACKAGES, package_folder
from tasks.tokenizer.trainers import train_tokenizer
from tasks.tokens.chat_template import SPECIAL_TOKENS

HELD_OUT = 20
"""Every so many-th document is held out."""
HELD_OUT_ROWS = 256
START = SPECIAL_TOKENS[0]


def make(folder: Path, context: int, vocabulary: int, documents: int | None = None) -> Path:
    """Write all that is listed above to `folder`, unless it is there; `documents`: so many made-up ones, for tests."""
    about = {"context": context, "vocabulary": vocabulary, "documents": documents}
    done = folder / "about.json"
    if done.exists() and json.loads(done.read_text()) == about:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tokenizer").mkdir(parents=True)
    texts = _conversations() if documents is None else _invented(documents)
    random.Random(0).shuffle(texts)
    train, held_out = [t for i, t in enumerate(texts) if i % HELD_OUT], texts[::HELD_OUT]
    tokenizer = train_tokenizer(
        "bpe", vocabulary, 2, iter(train), sum(len(text.encode()) for text in train), "vocabulary"
    )
    tokenizer.save(str(folder / "tokenizer/tokenizer.json"))
    (folder / "tokenizer/tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|pad|>"}'
    )
    start = tokenizer.token_to_id(START)
    ids = [[start, *each.ids] for each in tokenizer.encode_batch(train, add_special_tokens=False)]
    np.array([token for document in ids for token in document] + [start], dtype=np.uint16).tofile(folder / "train.bin")
    rows = np.full((min(HELD_OUT_ROWS, len(held_out)), context + 1), -1, dtype=np.int64)
    for row, each in zip(rows, tokenizer.encode_batch(held_out, add_special_tokens=False), strict=False):
        document = [start, *each.ids][: context + 1]
        row[: len(document)] = document
    np.save(folder / "held_out.npy", rows)
    np.save(folder / "token_bytes.npy", _token_bytes(tokenizer))
    _write_pack(folder, np.cumsum([0, *map(len, ids)]), context, tokenizer.get_vocab_size(), start)
    done.write_text(json.dumps(about))
    return folder


def _write_pack(folder: Path, offsets: np.ndarray, context: int, vocabulary: int, start: int) -> None:
    """data/pack of the same documents. Its validation part is its first document: what is compared is scored by another."""
    pack = folder / "pack"
    for split, end in (("train", len(offsets)), ("validation", 2)):
        (pack / split).mkdir(parents=True)
        here = offsets[:end]
        np.fromfile(folder / "train.bin", dtype=np.uint16, count=int(here[-1]) + 1).tofile(pack / split / "tokens.bin")
        packed = pack_rows(here, context)
        for name, array in (("offsets", here), ("segments", packed.segments), ("rows", packed.rows)):
            np.save(pack / split / f"{name}.npy", array)
    shutil.copyfile(folder / "token_bytes.npy", pack / "token_bytes.npy")
    about = {"context_length": context, "vocabulary_size": vocabulary, "document_start": start, "dtype": "uint16"}
    (pack / "pack.json").write_text(json.dumps(about))


def _token_bytes(tokenizer: object) -> np.ndarray:
    """UTF-8 bytes of each token; control tokens are no text."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()  # type: ignore[attr-defined]
    sizes = np.zeros(len(vocabulary), dtype=np.int64)
    for token, number in vocabulary.items():
        sizes[number] = 0 if token in SPECIAL_TOKENS else len(token)  # a character of a byte-level token is a byte
    return sizes


def _conversations() -> list[str]:
    read = PACKAGES["chitchat-dataset"][2]
    return [document.text for document in read(package_folder("chitchat-dataset")) if document.text]


def _invented(count: int) -> list[str]:
    words = [f"w{number}" for number in range(40)]
    randomly = random.Random(1)
    return [" ".join(randomly.choice(words) for _ in range(randomly.randint(20, 90))) for _ in range(count)]
