"""Words of a text as the published rules count them: spans that a compiled tokenizer finds (numba).

The thresholds were set with English word tokenizers; FineWeb's and datatrove's is spaCy's. This one follows its rules:
white space separates; quotes, brackets and stops at the ends of a word are words; hyphens, slashes and commas between
letters, ellipses and signs separate; n't, 's and the like are words. It leaves out spaCy's list of exceptions (Mr.,
e.g., emoticons), its units (10km) and the list of top-level domains by which it knows addresses. Scripts written
without spaces give one word for a clause, as they do there: these rule sets are made for languages with spaces.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tasks.clean.rules.character_classes import UInt16, character_classes
from tasks.clean.rules.word_tokenizer import find_sentences, find_words
from tasks.similarity.shingles import LAST_CODE_POINT

Int64 = npt.NDArray[np.int64]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class TokenizedText:
    """A text, its code points (uint32 [characters]) and, once asked for, its words.

    Attributes:
        given: spans of the words, int64 [words, 2], where another tokenizer has found them.
    """

    text: str
    given_spans: Int64 | None = None

    @cached_property
    def codes(self) -> UInt32:
        return np.frombuffer(self.text.encode("utf-32-le", "surrogatepass"), np.uint32)

    @cached_property
    def classes(self) -> UInt16:
        """uint16 [characters]: the classes of the characters."""
        return character_classes()[np.minimum(self.codes, LAST_CODE_POINT)]

    @cached_property
    def spans(self) -> Int64:
        """int64 [words, 2]: first character of each word, and the one after its last."""
        if self.given_spans is not None:
            return self.given_spans
        spans = np.empty((len(self.codes) + 1, 2), np.int64)
        return spans[: find_words(self.codes, self.classes, spans)].copy()

    @cached_property
    def lengths(self) -> Int64:
        """int64 [words]: characters of each word."""
        return self.spans[:, 1] - self.spans[:, 0]

    def characters_with(self, bit: int) -> Int64:
        """int64 [words]: how many characters of each word are of a class."""
        before = np.concatenate([[0], np.cumsum((self.classes & bit) != 0)])
        counts: Int64 = before[self.spans[:, 1]] - before[self.spans[:, 0]]
        return counts

    def word(self, index: int) -> str:
        first, end = self.spans[index]
        return self.text[first:end]


def count_sentences(page: TokenizedText) -> int:
    """Sentences by spaCy's sentencizer: one ends before the first word, not punctuation, after a terminal sign."""
    return int(find_sentences(page.codes, page.classes, page.spans))
