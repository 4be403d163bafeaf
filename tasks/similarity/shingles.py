"""Word n-gram shingles and MinHash signatures, straight from the bytes of an Arrow string column (numba).

datasketch 2.0 is the specification of the signatures and, in the tests, the oracle: scheme `affine32` (the 32-bit
shingle hash goes once through MurmurHash3's finalizer, then permutation k takes the minimum over the shingles of
`a[k] * hash + b[k]` modulo 2^32), with datasketch's `a` and `b` for the seed.
Broder 1997, "On the resemblance and containment of documents".
"""

from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tasks.documents.word_characters import RUN, SPACELESS
from tasks.similarity.numba_cache import jit

UInt8 = npt.NDArray[np.uint8]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]

MINHASH_SCHEME = "affine32"
WORD_HASH = "fnv1a-64 of the word's UTF-8 bytes"
SHINGLE_HASH = (
    "s = 0; for each word w: s = s * 0x9E3779B97F4A7C15 ^ w, s ^= s >> 29; then s *= 0xBF58476D1CE4E5B9, s ^= s >> 32"
)
SHINGLER = (
    "words: runs of Unicode letters, digits, marks, joiners and _; in scripts written without spaces, each character"
)

VECTOR_LANES = 16
"""32-bit numbers in a vector register of 64 bytes. Whole registers at addresses divisible by 64: else up to 1.8 times as slow."""
SEPARATOR, IN_WORD, WORD = np.uint8(0), np.uint8(1), np.uint8(2)
LAST_CODE_POINT = 0x323B0  # beyond lie only selectors and private use: separators


@cache
def character_classes() -> UInt8:
    """uint8 [LAST_CODE_POINT]: what a code point is in a text: a separator, part of a word, or a word by itself."""
    classes = np.full(LAST_CODE_POINT, SEPARATOR)
    for run in RUN.finditer("".join(map(chr, range(LAST_CODE_POINT)))):
        classes[run.start() : run.end()] = IN_WORD
    for first, end in SPACELESS:
        block = classes[first:end]
        block[block == IN_WORD] = WORD
    return classes


@jit
def _word_hashes(data: UInt8, offsets: Int64, classes: UInt8, hashes: UInt64, word_offsets: Int64) -> None:
    words = 0
    word = np.uint64(14695981039346656037)
    ascii_word = np.zeros(256, np.bool_)
    ascii_word[:128] = classes[:128] == IN_WORD
    one = np.uint64(1)  # unsigned places spare the compiler the check for negative ones
    for doc in range(len(offsets) - 1):
        inside = False
        at, end = np.uint64(offsets[doc]), np.uint64(offsets[doc + 1])
        while at < end:
            byte = data[at]
            if byte < 0x80:  # without a branch that the processor would have to guess at each end of a word
                if not inside:
                    word = np.uint64(14695981039346656037)
                while byte < 0x80:
                    part = ascii_word[byte]
                    hashes[words] = word
                    words += inside and not part  # no ASCII character is a word by itself
                    longer = (word ^ np.uint64(byte)) * np.uint64(1099511628211)
                    word = longer if part else np.uint64(14695981039346656037)
                    inside = part
                    at += one
                    if at >= end:
                        break
                    byte = data[at]
                continue
            first = np.int64(byte)
            if first < 0xE0:
                length, code = np.uint64(2), (first & 0x1F) << 6 | np.int64(data[at + one]) & 0x3F
            elif first < 0xF0:
                length = np.uint64(3)
                code = (first & 0x0F) << 12 | (np.int64(data[at + one]) & 0x3F) << 6
                code |= np.int64(data[at + np.uint64(2)]) & 0x3F
            else:
                length = np.uint64(4)
                code = (first & 0x07) << 18 | (np.int64(data[at + one]) & 0x3F) << 12
                code |= (np.int64(data[at + np.uint64(2)]) & 0x3F) << 6 | np.int64(data[at + np.uint64(3)]) & 0x3F
            kind = classes[code] if code < len(classes) else SEPARATOR
            if inside and kind != IN_WORD:
                hashes[words] = word
                words += 1
                inside = False
            if kind != SEPARATOR:
                if not inside:
                    word = np.uint64(14695981039346656037)
                for _ in range(length):
                    word = (word ^ np.uint64(data[at])) * np.uint64(1099511628211)
                    at += one
                if kind == IN_WORD:
                    inside = True
                else:
                    hashes[words] = word
                    words += 1
            else:
                at += length
        if inside:
            hashes[words] = word
            words += 1
        word_offsets[doc + 1] = words


@jit
def _shingles(words: UInt64, word_offsets: Int64, n: int, shingles: UInt64, shingle_offsets: Int64) -> None:
    end = 0
    for doc in range(len(word_offsets) - 1):
        for last in range(word_offsets[doc] + n, word_offsets[doc + 1] + 1):
            s = np.uint64(0)
            for k in range(last - n, last):
                s = (s * np.uint64(0x9E3779B97F4A7C15)) ^ words[k]
                s ^= s >> np.uint64(29)
            s *= np.uint64(0xBF58476D1CE4E5B9)
            shingles[end] = s ^ (s >> np.uint64(32))
            end += 1
        shingle_offsets[doc + 1] = end


@jit
def _drop_repeats(shingles: UInt64, offsets: Int64) -> None:
    """Keep one of equal neighbours within a document, moving everything to the front; `offsets` become the new ones."""
    end = 0
    at = offsets[0]
    for doc in range(len(offsets) - 1):
        start = end
        until = offsets[doc + 1]
        while at < until:
            if end == start or shingles[at] != shingles[end - 1]:
                shingles[end] = shingles[at]
                end += 1
            at += 1
        offsets[doc + 1] = end


@jit
def _minhash_signatures(shingles: UInt64, offsets: Int64, lanes: UInt32, minima: UInt32) -> None:
    a, b, own = lanes[0], lanes[1], lanes[2]
    for doc in range(len(offsets) - 1):
        own[:] = np.uint32(0xFFFFFFFF)
        for at in range(offsets[doc], offsets[doc + 1]):
            x = np.uint32(shingles[at] & np.uint64(0xFFFFFFFF))
            x ^= x >> np.uint32(16)
            x = np.uint32(x * np.uint32(0x85EBCA6B))
            x ^= x >> np.uint32(13)
            x = np.uint32(x * np.uint32(0xC2B2AE35))
            x ^= x >> np.uint32(16)
            for k in range(len(own)):
                v = np.uint32(x * a[k] + b[k])
                if v < own[k]:
                    own[k] = v
        minima[doc] = own[: minima.shape[1]]


def shingle_lists(data: UInt8, offsets: Int64, n: int) -> tuple[UInt64, Int64]:
    """The hash of each word `n`-gram of each document, in the order of the text, repeats included.

    `data` are the UTF-8 bytes of all documents and `offsets`, int64 [documents + 1], their borders. Returns the
    hashes, uint64 [n-grams], and their borders, int64 [documents + 1]. A document of fewer than `n` words has none.
    """
    documents = len(offsets) - 1
    size = int(offsets[-1] - offsets[0]) if len(offsets) else 0
    words = np.empty(size // 2 + documents + 1, np.uint64)  # a word takes a byte and a border, or two bytes or more
    word_offsets = np.zeros(documents + 1, np.int64)
    _word_hashes(data, offsets, character_classes(), words, word_offsets)
    shingles = np.empty(word_offsets[-1], np.uint64)
    shingle_offsets = np.zeros(documents + 1, np.int64)
    _shingles(words, word_offsets, n, shingles, shingle_offsets)
    return shingles[: shingle_offsets[-1]], shingle_offsets


def lists_to_sets(shingles: UInt64, offsets: Int64) -> tuple[UInt64, Int64]:
    """Sort what `shingle_lists` returned, document by document, and drop repeats. Works in place."""
    borders = offsets.tolist()
    for start, end in pairwise(borders):
        shingles[start:end].sort()  # numpy sorts with vector instructions, ten times as fast as a compiled loop
    _drop_repeats(shingles, offsets)
    return shingles[: offsets[-1]], offsets


def shingle_sets(data: UInt8, offsets: Int64, n: int) -> tuple[UInt64, Int64]:
    """The set of word `n`-grams of each document, as sorted 64-bit hashes: uint64, and their borders, int64."""
    return lists_to_sets(*shingle_lists(data, offsets, n))


def minhash_permutations(count: int, seed: int) -> tuple[UInt32, UInt32]:
    """Datasketch's multipliers (odd) and increments, uint32 [count] each, for a seed.

    Drawn here as datasketch 2.0 draws them: importing it costs each worker more than a shard's signatures.
    """
    draw = np.random.RandomState(seed)
    a = draw.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a, draw.randint(0, 1 << 32, count, dtype=np.uint32)


def minhash_signatures(shingles: UInt64, offsets: Int64, count: int, seed: int) -> UInt32:
    """MinHash signatures, uint32 [documents, count], over the lower 32 bits of the shingle hashes.

    Equal to `datasketch.MinHash(count, seed, scheme="affine32").hashvalues`; all ones where a document has no shingle.
    """
    minima = np.empty((len(offsets) - 1, count), np.uint32)
    width = -(-count // VECTOR_LANES) * VECTOR_LANES
    memory = np.zeros((3 * width + VECTOR_LANES) * 4, np.uint8)
    lanes = memory[-memory.ctypes.data % (4 * VECTOR_LANES) :][: 3 * width * 4].view(np.uint32).reshape(3, width)
    lanes[0, :count], lanes[1, :count] = minhash_permutations(count, seed)
    _minhash_signatures(shingles, offsets, lanes, minima)
    return minima
