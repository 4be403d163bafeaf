"""Which tokens make a word, over byte-level tokens: for hiding words whole.

A word is a run of letters, digits and marks with the space before it (tasks.documents.word_characters). In scripts that put no
spaces between words (Chinese, Japanese, Thai, Khmer, ...) each character is one, as in BERT's Chinese models. Where a token holds the
end of one word and the beginning of the next, as byte-level tokens of such scripts may, both are one.
"""

import re
from collections.abc import Sequence

import numpy as np

from tasks.documents.word_characters import WORD_CLASS
from tasks.pretrain.data_loader import Int64

UNSPACED = (
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17d3\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
"""Thai, Lao, Myanmar, Khmer, kana, and the ideographs of Unicode's blocks."""
MARKS = WORD_CLASS.removeprefix(r"\w")
WORD = re.compile(rf"\s?(?:[{UNSPACED}][{MARKS}]*|(?:(?![{UNSPACED}])[{WORD_CLASS}])+|[^\s{WORD_CLASS}]+)|\s+(?=\s)|\s")


class Words:
    """Words over a vocabulary; `token_texts` are the bytes of each token, empty for special tokens, which end words."""

    def __init__(self, token_texts: Sequence[bytes]) -> None:
        self.texts = [text or b"\0" for text in token_texts]
        self.lengths = np.array([len(text) for text in self.texts], dtype=np.int64)

    def of(self, tokens: Int64) -> Int64:
        """The number of the word, from 0, of each of the tokens of a row: int64 [tokens], never falling."""
        text = b"".join(self.texts[token] for token in tokens.tolist()).decode("utf-8", "surrogateescape")
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
        sizes[(codes >= 0xDC80) & (codes <= 0xDCFF)] = 1  # a byte that is no UTF-8
        character_starts = np.cumsum(sizes) - sizes
        word_starts = character_starts[[found.start() for found in WORD.finditer(text)]]
        token_starts = np.cumsum(self.lengths[tokens]) - self.lengths[tokens]
        begins = np.isin(token_starts, word_starts)
        begins[:1] = True
        number: Int64 = np.cumsum(begins) - 1
        return number
