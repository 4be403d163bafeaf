"""Which vocabulary size? What each candidate makes of the same text, what it costs to train with, and a proposal.

A larger vocabulary makes sequences shorter, so the model's body runs less often for a byte of text; its softmax runs less
often too, but over more tokens, and more of these are too rare to be learnt.

- Cost of a token in training, in FLOPs: body 72 layers hidden² + 12 layers hidden context (six for each of about
  12 layers hidden² weights, Kaplan et al. 2020, arXiv:2001.08361, and attention's products as in PaLM, arXiv:2204.02311,
  appendix B); softmax 6 hidden vocabulary. Divided by bytes per token, that is the cost of a byte of text.
- A token is under-trained if it occurs fewer than 100 times in the training documents. After Gowda and May 2020, "Finding
  the Optimal Vocabulary Size for Neural Machine Translation" (arXiv:2004.02334), 95% of the tokens should not be. The
  share is of the tokens that were learnt: the 256 bytes are in every vocabulary, and many never occur.
- Proposed is the candidate that costs the least for a byte, of those with at most 5% under-trained; if there is none, the
  one with the smallest such share. It is a proposal: quality, in bits per byte, only training tells.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from tasks.documents.shards import read_shard
from tasks.held_out.split import TRAIN
from tasks.tokens.encode import encode_documents, load_tokenizer

MAX_UNDERTRAINED_SHARE = 0.05
RULE = (
    "the lowest training_flops_per_byte = (72 layers hidden^2 + 12 layers hidden context + 6 hidden vocabulary) / "
    "bytes_per_token among candidates with at most 5% of the learnt tokens under-trained; without one, the smallest such share"
)
NO_LANGUAGE = "unknown"
BATCH = 256
Key = tuple[str, str]


class CostModel(BaseModel):
    """The model for which candidates are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(4, ge=1, description="Decoder blocks.")
    hidden: int = Field(192, ge=1, description="Width of the residual stream.")
    context_length: int = Field(256, ge=1, description="Tokens in a row.")

    def body_flops(self) -> int:
        """FLOPs of a token in training, forward and backward, but for the softmax."""
        return 12 * self.layers * self.hidden * (6 * self.hidden + self.context_length)

    def softmax_flops(self, vocabulary: int) -> int:
        """FLOPs of a token in training in the last matrix, over `vocabulary` tokens."""
        return 6 * self.hidden * vocabulary


@dataclass(frozen=True)
class SizeCounts:
    """One candidate on some documents.

    Attributes:
        counts: bytes, words (between white space) and tokens, int64 [3], by ("split" | "source" | "language", its name).
        used: int64 [vocabulary]: how often each token stands in the training documents among them.
    """

    counts: dict[Key, npt.NDArray[np.int64]]
    used: npt.NDArray[np.int64]


def measure_shard(work: tuple[Path, npt.NDArray[np.bool_]], tokenizer_folders: Sequence[Path]) -> list[SizeCounts]:
    """Encode the chosen documents of a shard, bool [documents], with each candidate."""
    shard, chosen = work
    table = read_shard(shard, ["source", "lang", "split", "text"])
    rows = table.filter(chosen).to_pylist() if chosen.any() else []
    sizes = [(len(row["text"].encode()), len(row["text"].split())) for row in rows]
    found = []
    for folder in tokenizer_folders:
        counts: dict[Key, npt.NDArray[np.int64]] = {}
        used = np.zeros(load_tokenizer(folder).get_vocab_size(), np.int64)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            encoded = encode_documents(folder, [row["text"] for row in batch])
            for row, size, ids in zip(batch, sizes[start : start + BATCH], encoded, strict=True):
                for key in (
                    ("split", row["split"]),
                    ("source", row["source"] or ""),
                    ("language", row["lang"] or NO_LANGUAGE),
                ):
                    counts.setdefault(key, np.zeros(3, np.int64))[:] += (*size, len(ids))
                if row["split"] == TRAIN:
                    used += np.bincount(ids, minlength=len(used))
        found.append(SizeCounts(counts, used))
    return found


def compare_sizes(
    shards: Iterable[list[SizeCounts]], tokenizer_folders: Sequence[Path], model: CostModel, rare: int, train_bytes: int
) -> dict[str, Any]:
    """The comparison, from `measure_shard` over all shards: `candidates` by vocabulary size, `proposed` and its `rule`.

    A token is under-trained if `train_bytes` of training text are expected to hold it fewer than `rare` times.
    """
    candidates: dict[str, dict[str, Any]] = {}
    tokenizers = [load_tokenizer(folder) for folder in tokenizer_folders]
    totals = [SizeCounts({}, np.zeros(tokenizer.get_vocab_size(), np.int64)) for tokenizer in tokenizers]
    for shard in shards:  # added up as they come: each has a count for every token
        for total, part in zip(totals, shard, strict=True):
            total.used[:] += part.used
            for key, values in part.counts.items():
                total.counts[key] = total.counts.get(key, np.zeros(3, np.int64)) + values
    for tokenizer, total in zip(tokenizers, totals, strict=True):
        used, counts = total.used, total.counts
        control = tokenizer.get_added_tokens_decoder()
        plain = np.array([number not in control for number in range(len(used))])
        learnt = plain & np.array([len(str(tokenizer.id_to_token(number))) > 1 for number in range(len(used))])
        scarce = used * (train_bytes / counts["split", TRAIN][0]) < rare
        rates = _rates(counts["split", TRAIN])
        body = model.body_flops() / rates["bytes_per_token"]
        softmax = model.softmax_flops(len(used)) / rates["bytes_per_token"]
        candidates[str(len(used))] = {
            **rates,
            "sources": {name: _rates(values) for (kind, name), values in sorted(counts.items()) if kind == "source"},
            "languages": {
                name: _rates(values) for (kind, name), values in sorted(counts.items()) if kind == "language"
            },
            "undertrained_tokens": int(np.count_nonzero(scarce & plain)),
            "undertrained_share": round(float(scarce[learnt].mean()), 4) if learnt.any() else 0.0,
            "body_flops_per_byte": round(body),
            "softmax_flops_per_byte": round(softmax),
            "training_flops_per_byte": round(body + softmax),
        }
    return {"candidates": candidates, "proposed": propose_size(candidates), "rule": RULE}


def propose_size(candidates: dict[str, dict[str, Any]]) -> int:
    """The vocabulary size that the rule names."""
    learnt = {n: c for n, c in candidates.items() if c["undertrained_share"] <= MAX_UNDERTRAINED_SHARE}
    if learnt:
        return min(map(int, learnt), key=lambda size: (learnt[str(size)]["training_flops_per_byte"], size))
    return min(map(int, candidates), key=lambda size: (candidates[str(size)]["undertrained_share"], size))


def _rates(counts: npt.NDArray[np.int64]) -> dict[str, float]:
    size, words, tokens = (int(count) for count in counts)
    return {
        "tokens": tokens,
        "bytes_per_token": round(size / max(tokens, 1), 4),
        "words_per_token": round(words / max(tokens, 1), 4),
    }
