"""How well a tokenizer fits a text: bytes a token, tokens a word (fertility), which words it breaks, what it never uses."""

import heapq
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.core.errors import UserError
from tasks.documents.shards import read_shard
from tasks.documents.word_characters import has_only_letters
from tasks.held_out.split import TRAIN, VALIDATION
from tasks.tokens.encode import encode_documents, encode_with_tokenizers, engine_name, load_tokenizer, round_trip_text

MAX_LISTED = 30
"""Entries of each list in the report."""
MAX_WORD_CHARACTERS = 60
"""Of longer words the report shows the beginning."""
BATCH = 256
Counts = dict[str, int]
NO_COUNTS: Counts = {"documents": 0, "bytes": 0, "words": 0, "tokens": 0}


def measure_shard(work: tuple[Path, npt.NDArray[np.bool_]], tokenizer_folder: Path) -> dict[str, Any]:
    """Encode the chosen documents of a shard, check that they come back, and count.

    Returns counts by (split, source), how often each token was used (int64 [vocabulary]), and the words of letters
    that take the most tokens.

    Raises:
        UserError: a text does not come back from its tokens exactly as it was.
        AssertionError: the fast engine gives other ids than the tokenizer.
    """
    shard, chosen = work
    tokenizer = load_tokenizer(tokenizer_folder)
    fast = engine_name(tokenizer_folder) != "tokenizers"
    used = np.zeros(tokenizer.get_vocab_size(), np.int64)
    counts: dict[tuple[str, str], Counts] = {}
    words: set[str] = set()
    table = read_shard(shard, ["id", "source", "split", "text"])
    rows = table.filter(chosen).to_pylist() if chosen.any() else []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        encoded = encode_documents(tokenizer_folder, [row["text"] for row in batch])
        decoded = tokenizer.decode_batch([ids.tolist() for ids in encoded], skip_special_tokens=False)
        if fast:
            theirs = encode_with_tokenizers(tokenizer, [row["text"] for row in batch])
            if other := [r["id"] for r, a, b in zip(batch, encoded, theirs, strict=True) if not np.array_equal(a, b)]:
                raise AssertionError(f"{shard}: document {other[0]}: tiktoken and tokenizers give different ids")
        for row, ids, back in zip(batch, encoded, decoded, strict=True):
            if back != round_trip_text(tokenizer, row["text"]):
                raise UserError(f"{shard}: document {row['id']}: its text does not come back from its tokens")
            split_words = row["text"].split()
            words.update(word for word in split_words if has_only_letters(word))
            total = counts.setdefault((row["split"], row["source"] or ""), dict(NO_COUNTS))
            total["documents"] += 1
            total["bytes"] += len(row["text"].encode())
            total["words"] += len(split_words)
            total["tokens"] += len(ids)
            used += np.bincount(ids, minlength=len(used))
    ordered = sorted(words)
    lengths = map(len, encode_documents(tokenizer_folder, [f" {word}" for word in ordered]))
    return {"counts": counts, "used": used, "splits": _longest(zip(lengths, ordered, strict=True))}


def _longest(words: Any) -> list[tuple[int, str]]:
    return heapq.nsmallest(MAX_LISTED, set(words), key=lambda entry: (-entry[0], entry[1]))


def fertility_report(shards: Iterable[dict[str, Any]], tokenizer_folder: Path) -> dict[str, Any]:
    """The report over all shards.

    `train`, `validation` and each of `sources` have documents, bytes, words (between white space), tokens,
    bytes_per_token and tokens_per_word; then longest tokens, longest splits, and the tokens that no text used.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    used = np.zeros(tokenizer.get_vocab_size(), np.int64)
    groups: dict[str, Counts] = {TRAIN: dict(NO_COUNTS), VALIDATION: dict(NO_COUNTS)}
    sources: dict[str, Counts] = {}
    splits: list[tuple[int, str]] = []
    for shard in shards:  # added up as they come: each has a count for every token
        used += shard["used"]
        splits = _longest([*splits, *shard["splits"]])
        for (split, source), counts in shard["counts"].items():
            for total in (groups[split], sources.setdefault(source, dict(NO_COUNTS))):
                for name, count in counts.items():
                    total[name] += count
    control = set(tokenizer.get_added_tokens_decoder())
    plain = [number for number in range(len(used)) if number not in control]
    # A token is written in an alphabet of which one letter is one byte.
    byte_lengths = {number: len(str(tokenizer.id_to_token(number))) for number in plain}
    longest = sorted(plain, key=lambda number: (-byte_lengths[number], number))[:MAX_LISTED]
    unused = [number for number in plain if not used[number]]
    return {
        **{name: _rates(counts) for name, counts in groups.items()},
        "sources": {name: _rates(counts) for name, counts in sorted(sources.items())},
        "longest_token_bytes": byte_lengths[longest[0]],
        "longest_tokens": [{"text": tokenizer.decode([number]), "used": int(used[number])} for number in longest],
        "longest_splits": [{"word": _shown(word), "tokens": tokens} for tokens, word in splits],
        "unused_tokens": len(unused),
        "unused": [tokenizer.decode([number]) for number in unused[-MAX_LISTED:]],
    }


def _rates(counts: Counts) -> dict[str, float]:
    return {
        **counts,
        "bytes_per_token": round(counts["bytes"] / max(counts["tokens"], 1), 4),
        "tokens_per_word": round(counts["tokens"] / max(counts["words"], 1), 4),
    }


def _shown(word: str) -> str:
    return word if len(word) <= MAX_WORD_CHARACTERS else word[:MAX_WORD_CHARACTERS] + "…"
