"""`canonical_text` for a whole Arrow column: the same bytes as the Python function, one numba pass over the UTF-8.

What the kernel leaves to Python: documents with a character whose folding is more than one character (ß) or whose
NFC depends on its neighbours (combining marks, Hangul parts), and bytes that are no UTF-8.
"""

import hashlib
import unicodedata
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.errors import UserError
from tasks.similarity.canonical_text import canonical_text
from tasks.similarity.numba_cache import jit
from tasks.similarity.shingles import Int64, UInt8

Int32 = npt.NDArray[np.int32]

TABLE_SIZE = 0x20000  # beyond the first two planes lie rare characters: Python folds them
BY_PYTHON, SPACE = -1, 0x20


@cache
def case_folding_table() -> Int32:
    """int32 [LAST]: the character that a code point folds to, SPACE for white space, or BY_PYTHON.

    A character stands for itself in NFC whatever its neighbours if it is normalised, has combining class 0 and is
    no second half of a composition (Unicode Standard Annex 15, "Detecting normalization forms").
    """
    characters = list(map(chr, range(TABLE_SIZE)))
    seconds = [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]  # Hangul vowels and final consonants
    for parts in map(unicodedata.decomposition, characters):  # no character beyond has a decomposition of two
        if parts and parts[0] != "<":
            seconds += [int(part, 16) for part in parts.split()[1:]]
    by_itself = np.fromiter(map(partial(unicodedata.is_normalized, "NFC"), characters), np.bool_, TABLE_SIZE)
    by_itself &= np.fromiter(map(unicodedata.combining, characters), np.int64, TABLE_SIZE) == 0
    by_itself[[code for code in seconds if code < TABLE_SIZE]] = False
    by_itself[0xD800:0xE000] = False
    folded = [ord(each) if len(each) == 1 else 0xD800 for each in map(str.casefold, characters)]
    out = np.array(folded, np.int32)
    out[~by_itself[out]] = BY_PYTHON
    out[0xD800:0xE000] = BY_PYTHON
    out[np.fromiter(map(str.isspace, characters), np.bool_, TABLE_SIZE)] = SPACE
    return out


@jit
def _fold(data: UInt8, offsets: Int64, table: Int32, out: UInt8, borders: Int64) -> None:
    """Fold each document to `out` from `borders[doc]` on; `borders[doc + 1]` is ~end where Python has to do it."""
    at_out = 0
    ascii_table = table[:0x80].astype(np.uint8)
    for doc in range(len(offsets) - 1):
        begin, at, end = at_out, offsets[doc], offsets[doc + 1]
        gap = good = True
        while at < end:
            code = np.int64(data[np.uint64(at)])
            if code < 0x80:  # without a branch that the processor would have to guess at each word
                letter = ascii_table[np.uint64(code)]
                out[np.uint64(at_out)] = letter
                space = letter == SPACE
                at_out += 1 - (space & gap)
                gap = space
                at += 1
                continue
            length = 2 if code < 0xE0 else 3 if code < 0xF0 else 4
            if code < 0xC2 or code >= 0xF5 or at + length > end:
                good = False
                break
            code &= 0x7F >> length
            for k in range(1, length):
                byte = np.int64(data[at + k])
                good = good and byte & 0xC0 == 0x80
                code = code << 6 | byte & 0x3F
            least = 0x80 if length == 2 else 0x800 if length == 3 else 0x10000
            if not good or code < least or code >= len(table):
                good = False
                break
            at += length
            folded = table[code]
            if folded == BY_PYTHON:
                good = False
                break
            if folded == SPACE:
                if not gap:
                    out[at_out] = SPACE
                    at_out += 1
                gap = True
                continue
            gap = False
            if folded < 0x80:
                out[at_out] = folded
                at_out += 1
            elif folded < 0x800:
                out[at_out] = 0xC0 | folded >> 6
                out[at_out + 1] = 0x80 | folded & 0x3F
                at_out += 2
            elif folded < 0x10000:
                out[at_out] = 0xE0 | folded >> 12
                out[at_out + 1] = 0x80 | folded >> 6 & 0x3F
                out[at_out + 2] = 0x80 | folded & 0x3F
                at_out += 3
            else:
                out[at_out] = 0xF0 | folded >> 18
                out[at_out + 1] = 0x80 | folded >> 12 & 0x3F
                out[at_out + 2] = 0x80 | folded >> 6 & 0x3F
                out[at_out + 3] = 0x80 | folded & 0x3F
                at_out += 4
        if not good:
            at_out = begin
            borders[doc + 1] = ~at_out
        else:
            if gap and at_out > begin:
                at_out -= 1
            borders[doc + 1] = at_out


def utf8_buffers(column: pa.ChunkedArray | pa.Array) -> tuple[UInt8, Int64]:
    """UTF-8 bytes, uint8, and the borders of its texts, int64 [texts + 1], of a string column; null counts as empty."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = array.cast(pa.large_string()).fill_null("")
    _, offsets, data = array.buffers()
    if not len(array):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    borders = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(data or b"", np.uint8), borders


def canonical_column(column: pa.ChunkedArray | pa.Array) -> tuple[UInt8, Int64]:
    """What `canonical_text` makes of each text: UTF-8 bytes, uint8, and their borders, int64 [texts + 1].

    Raises:
        UserError: a text is no valid UTF-8; tells its row.
    """
    data, offsets = utf8_buffers(column)
    folded = np.empty((offsets[-1] - offsets[0]) * 3 // 2 + 8, np.uint8)  # U+023A grows from two bytes to three
    borders = np.zeros(len(offsets), np.int64)
    _fold(data, offsets, case_folding_table(), folded, borders)
    by_python = np.flatnonzero(borders[1:] < 0)
    borders[1:][by_python] = ~borders[1:][by_python]
    if not len(by_python):
        return folded[: borders[-1]], borders
    parts, done, sizes = [], 0, np.diff(borders)
    for doc in by_python:
        try:
            text = canonical_text(data[offsets[doc] : offsets[doc + 1]].tobytes().decode())
        except UnicodeDecodeError as error:
            raise UserError(f"row {doc}: its text is no valid UTF-8 ({error.reason})") from None
        own = np.frombuffer(text.encode(), np.uint8)
        parts += [folded[done : borders[doc]], own]
        done, sizes[doc] = borders[doc], len(own)
    parts.append(folded[done : borders[-1]])
    return np.concatenate(parts), np.concatenate([[0], np.cumsum(sizes)])


def digests(data: UInt8, offsets: Int64) -> pa.Array:
    """BLAKE2b-128, as `canonical_text.digest` computes it, of each text: fixed-size binary [texts]."""
    view, borders, blake2b = data.data, offsets.tolist(), hashlib.blake2b
    raw = [blake2b(view[borders[i] : borders[i + 1]], digest_size=16).digest() for i in range(len(borders) - 1)]
    return pa.array(raw, pa.binary(16))
