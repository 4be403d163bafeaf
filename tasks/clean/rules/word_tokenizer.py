"""The tokenizer of the published rules, compiled (numba); tokenized_text.py says what it follows.

Kernels take a text's code points, uint32 [characters], and their classes, uint16 [characters].
"""

from typing import Any

import numpy as np

from tasks.clean.rules.character_classes import (
    ALPHA,
    DIGIT,
    HYPHEN,
    ICON,
    LOWER,
    PREFIX,
    PUNCTUATION,
    QUOTE,
    SPACE,
    SUFFIX,
    TERMINAL,
    UPPER,
)
from tasks.similarity.numba_cache import jit

STOP = ord(".")


@jit
def _emit(spans: Any, count: int, first: int, end: int) -> Any:
    if end > first:
        spans[count, 0] = first
        spans[count, 1] = end
        return count + 1
    return count


@jit
def find_words(codes: Any, bits: Any, spans: Any) -> Any:
    """Write the spans of the words into `spans`, int64 [characters + 1, 2]; returns their number."""
    count, at, size = 0, 0, len(codes)
    while at < size:
        if bits[np.uint64(at)] & SPACE:  # unsigned places spare the compiler the check for negative ones
            at += 1
            continue
        end, every, some = at, ALPHA, 0
        while end < size:
            found = bits[np.uint64(end)]
            if found & SPACE:
                break
            every, some = every & found, some | found
            end += 1
        if every and not some & (PREFIX | SUFFIX):  # nothing but letters
            spans[count, 0], spans[count, 1] = at, end
            count += 1
        else:
            count = _chunk(codes, bits, at, end, spans, count)
        at = end
    return count


@jit
def _chunk(codes: Any, bits: Any, first: int, end: int, spans: Any, count: int) -> Any:
    """The words of a stretch without white space: what stands at its ends is cut off, then its inside is cut."""
    while first < end:
        width = _stops(codes, first, end)
        if width < 2:
            sign = codes[first] == 43 and not (first + 1 < end and bits[first + 1] & DIGIT)  # a plus that is no sign
            width = 1 if bits[first] & PREFIX or sign else 0
        if not width:
            break
        count = _emit(spans, count, first, first + width)
        first += width
    last = end
    while last > first:
        width = _suffix(codes, bits, first, last)
        if not width:
            break
        last -= width
    if last > first:
        count = _inside(codes, bits, first, last, spans, count)
    while last < end:  # again from the left, so that the words stay in order
        width = 1
        if codes[last] == STOP:
            width = _stops(codes, last, end)
        elif codes[last] == 39 or codes[last] == 0x2019:
            width = 2 if last + 1 < end and codes[last + 1] | 32 == 115 else 1
        count = _emit(spans, count, last, last + width)
        last += width
    return count


@jit
def _stops(codes: Any, first: int, end: int) -> Any:
    at = first
    while at < end and codes[at] == STOP:
        at += 1
    return at - first


@jit
def _suffix(codes: Any, bits: Any, first: int, last: int) -> Any:
    """Length of what is cut off at the end of [first, last); 0 for nothing."""
    code = codes[last - 1]
    if code == STOP:
        at = last
        while at > first and codes[at - 1] == STOP:
            at -= 1
        if last - at > 1:
            return last - at
        if last - 1 == first:
            return 0
        before = bits[last - 2]
        if before & (DIGIT | SUFFIX) or codes[last - 2] in (37, 43, 45, 0xB2):
            return 1
        upper = before & UPPER and last - 3 >= first and bits[last - 3] & UPPER
        return 1 if bool(before & LOWER) or bool(upper) else 0
    if bits[last - 1] & SUFFIX or (code == 43 and last - 1 > first and bits[last - 2] & DIGIT):
        return 1
    if code | 32 == 115 and last - 2 > first and (codes[last - 2] == 39 or codes[last - 2] == 0x2019):
        return 2
    if (code == 36 or code == 0x20AC or code == 0xA3) and last - 1 > first and bits[last - 2] & DIGIT:
        return 1
    return 0


@jit
def _inside(codes: Any, bits: Any, first: int, last: int, spans: Any, count: int) -> Any:
    at = start = first
    while at + 2 < last:  # an address is one word
        if (codes[at] == 58 and codes[at + 1] == 47 and codes[at + 2] == 47) or (codes[at] == 64 and at > first):
            return _emit(spans, count, first, last)
        at += 1
    at = first
    while at < last:
        width = _infix(codes, bits, first, at, last)
        if width:
            count = _emit(spans, count, start, at)
            count = _emit(spans, count, at, at + width)
            at += width
            start = at
        else:
            at += 1
    tail = _contraction(codes, start, last)
    count = _emit(spans, count, start, last - tail)
    return _emit(spans, count, last - tail, last)


@jit
def _infix(codes: Any, bits: Any, first: int, at: int, last: int) -> Any:
    """Length of what separates two words at `at`; 0 for nothing."""
    code = codes[at]
    if bits[at] & ALPHA:
        return 0
    if bits[at] & ICON or code == 0x2026:
        return 1
    stops = _stops(codes, at, last)
    if stops > 1:
        return stops
    if at == first or at + 1 == last:
        return 0
    before, after = bits[at - 1], bits[at + 1]
    if code == STOP:
        return 1 if before & (LOWER | QUOTE) and after & (UPPER | QUOTE) else 0
    if bits[at] & HYPHEN and before & (ALPHA | DIGIT):
        end = at + 1
        while end < last and codes[end] == code and end - at < 3:
            end += 1
        if end < last and bits[end] & ALPHA:
            return end - at
    if (code == 43 or code == 45 or code == 42 or code == 94) and before & DIGIT:
        return 1 if after & DIGIT or codes[at + 1] == 45 else 0
    if code == 44:
        return 1 if before & ALPHA and after & ALPHA else 0
    if code == 58 or code == 60 or code == 62 or code == 61 or code == 47:
        return 1 if before & (ALPHA | DIGIT) and after & ALPHA else 0
    return 0


@jit
def _contraction(codes: Any, first: int, last: int) -> Any:
    """Length of n't, 'd, 'm, 'll, 're or 've at the end of a word; 0 for none."""
    size = last - first
    for length in (2, 3):
        at = last - length
        if size > length and (codes[at] == 39 or codes[at] == 0x2019):
            one, two = codes[at + 1] | 32, codes[last - 1] | 32
            if length == 2:
                if one == 116 and size > 3 and codes[at - 1] | 32 == 110:
                    return 3
                return 2 if one == 100 or one == 109 else 0
            known = (one == 108 and two == 108) or ((one == 114 or one == 118) and two == 101)
            return 3 if known else 0
    return 0


@jit
def find_sentences(codes: Any, bits: Any, spans: Any) -> Any:
    """The number of sentences that the words at `spans`, int64 [words, 2], make."""
    sentences, ended = 0, True
    for index in range(len(spans)):
        first, end = spans[index]
        terminal = end - first == 1 and bits[first] & TERMINAL
        if terminal:
            if not sentences:
                sentences = 1
                ended = False
            ended = True
            continue
        only_punctuation = True
        for at in range(first, end):
            if not bits[at] & PUNCTUATION:
                only_punctuation = False
        if ended and (not only_punctuation or not sentences):
            sentences += 1
            ended = False
    return sentences
