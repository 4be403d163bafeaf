"""Documents of made-up words and hostile texts, and tokenizers trained on them."""

import json
import random
from pathlib import Path

import pyarrow as pa

from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import SCHEMA, write_documents
from tasks.tokenizer.stage import TokenizerParams, run
from tasks.tokens.chat_template import SPECIAL_TOKENS

HOSTILE = [
    *SPECIAL_TOKENS,
    "a<|end|><|assistant|> b",
    " <|endoftext|>",
    "don't we'LL I'd",
    "  two\t\ttabs \r\n\r\n end  ",
    "\x00\x01\x7f\ufeff\u200b",
    "e\u0301 \u0419\u0306 \U0001f469\u200d\U0001f4bb \U0010ffff",
    "日本語の文章。",
    "Ġ Ċ Ã¢",
    "x" * 3000,
    "",
]


def corpus(folder: Path, count: int = 240, per_shard: int = 37, seed: int = 0) -> Path:
    """Documents of made-up words, one in ten for validation; the same words in a train-only and another source."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(400)]
    rows = [
        {
            "id": f"{number:032x}",
            "text": " ".join(rng.choices(words, k=60)) + HOSTILE[number % len(HOSTILE)],
            "source": ("books", "talk")[number % 2],
            "split": "validation" if number % 10 == 0 else "train",
        }
        for number in range(count)
    ]
    schema = SCHEMA.append(pa.field("split", pa.string()))
    for start in range(0, count, per_shard):
        write_documents(rows[start : start + per_shard], folder, prefix=f"{start:05d}-", schema=schema)
    return folder


def train(folder: Path, documents: Path, settings=None, **params):
    outputs = Outputs(folder / "out", folder / "work")
    outputs.root.mkdir(parents=True)
    outputs.work.mkdir()
    metrics = run(
        TokenizerParams(**{"vocab_size": 500, **params}), Inputs({"documents": documents}, settings=settings), outputs
    )
    json.dumps(metrics, allow_nan=False)
    return outputs.root, metrics
