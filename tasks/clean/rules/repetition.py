"""Repetition: how much of a text comes again; whole lines or paragraphs, and word n-grams by compiled kernels over the words (numba).

Strings are compared by 64-bit polynomial hashes of their characters, each character mixed first (SplitMix64).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.clean.rules.tokenized_text import Int64, TokenizedText, UInt64
from tasks.similarity.numba_cache import jit

BASE = np.uint64(0x9E3779B97F4A7C15)


def find_duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many of the parts came before, and their characters."""
    distinct = set(parts)
    return len(parts) - len(distinct), sum(map(len, parts)) - sum(map(len, distinct))


class NgramHashes:
    """Hashes of a page's words run together: uint64 [characters + 1] of each beginning, and powers of the base."""

    def __init__(self, page: TokenizedText) -> None:
        self.borders: Int64 = np.concatenate([[0], np.cumsum(page.lengths)])
        self.hashes: UInt64 = np.empty(self.borders[-1] + 1, np.uint64)
        self.powers: UInt64 = np.empty(self.borders[-1] + 1, np.uint64)
        _hash(page.codes, page.spans, self.hashes, self.powers)

    def top_ngram_characters(self, n: int) -> int:
        """Characters in the commonest `n`-gram (the first of those), a space between words, times how often it comes."""
        return int(_top(self.hashes, self.powers, self.borders, n))

    def duplicate_ngram_characters(self, n: int) -> int:
        """Characters in `n`-grams that came before, spaces left out; none is counted twice."""
        return int(_repeated(self.hashes, self.powers, self.borders, n))


@jit
def _hash(codes: Any, spans: Any, hashes: Any, powers: Any) -> None:
    hashes[0], powers[0] = np.uint64(0), np.uint64(1)
    at = 0
    for word in range(len(spans)):
        for k in range(spans[word, 0], spans[word, 1]):
            x = np.uint64(codes[k]) + BASE
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            hashes[at + 1] = hashes[at] * BASE + (x ^ (x >> np.uint64(31)))
            powers[at + 1] = powers[at] * BASE
            at += 1


@jit
def _between(hashes: Any, powers: Any, first: int, end: int) -> Any:
    return hashes[end] - hashes[first] * powers[end - first]


@jit
def _slot(keys: Any, used: Any, key: Any) -> Any:
    """Where a key is in a table of a power of two of slots, or where it would go."""
    last = len(keys) - 1
    at = np.int64((key ^ (key >> np.uint64(32))) & np.uint64(last))
    while used[at] and keys[at] != key:
        at = (at + 1) & last
    return at


@jit
def _slots(entries: int) -> Any:
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@jit
def _top(hashes: Any, powers: Any, borders: Any, n: int) -> Any:
    grams = len(borders) - n
    if grams < 1:
        return 0
    size = _slots(grams)
    keys, counts, firsts = np.zeros(size, np.uint64), np.zeros(size, np.int64), np.zeros(size, np.int64)
    for gram in range(grams):
        key = np.uint64(0)
        for word in range(gram, gram + n):  # word by word: "a bc" is not "ab c"
            key = key * np.uint64(0xD6E8FEB86659FD93) + _between(hashes, powers, borders[word], borders[word + 1])
            key ^= key >> np.uint64(29)
        at = _slot(keys, counts, key)
        if not counts[at]:
            keys[at], firsts[at] = key, gram
        counts[at] += 1
    most, first = np.int64(0), np.int64(0)
    for at in range(size):
        if counts[at] > most or (counts[at] == most and firsts[at] < first):
            most, first = counts[at], firsts[at]
    return most * (borders[first + n] - borders[first] + n - 1)


@jit
def _repeated(hashes: Any, powers: Any, borders: Any, n: int) -> Any:
    grams = len(borders) - n
    if grams < 1:
        return 0
    size = _slots(grams)
    keys, used = np.zeros(size, np.uint64), np.zeros(size, np.uint8)
    repeated, gram = np.int64(0), np.int64(0)
    while gram < grams:
        key = _between(hashes, powers, borders[gram], borders[gram + n])
        at = _slot(keys, used, key)
        if used[at]:
            repeated += borders[gram + n] - borders[gram]
            gram += n
        else:
            keys[at], used[at] = key, 1
            gram += 1
    return repeated
