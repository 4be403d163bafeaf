"""C4's bad words. Raffel et al. 2020 (JMLR 21:140), section 2.2, and TensorFlow Datasets' c4_utils.py; as datatrove's filter.

| of a page | removed |
| --- | --- |
| its lower-case text has a word of its language's list, with no letter, digit, mark or underscore beside it | any |
| the same in Japanese, Thai and Chinese, which put no spaces between words | any, wherever it stands |

The paper's list is the "List of Dirty, Naughty, Obscene or Otherwise Bad Words" (LDNOOBW), a file for each language;
mC4 leaves out of it what is common inside other words: 性 (zh), sm, グロ and 女の子 (ja). Here the lists are the user's. A
page whose language is unknown is held against all of them; one in a language without a list passes. Every page with a
word goes: the share that datatrove may keep at random (keep_fraction) is none in the paper. Unlike there, a mark belongs to
the word that it stands on: Hindi कम (few) does not stand in कमी (lack).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from tasks.clean.removal_reason import RemovalReason
from tasks.core.errors import UserError
from tasks.documents.word_characters import WORD_CLASS, word_runs

UNSPACED = ("ja", "th", "zh")
WHERE = "params.yaml: clean.bad_words"


class BadWords:
    """Lists of words or phrases by language (ISO 639 code)."""

    def __init__(self, lists: Mapping[str, tuple[str, ...]]) -> None:
        # Beside each word its runs of letters: a text can only have the word that has all of them.
        self._lists = {code: [(word, word_runs(word)) for word in words] for code, words in lists.items()}

    @classmethod
    def read(cls, files: Mapping[str, Path]) -> "BadWords":
        """Read a file for each language: UTF-8, a word or phrase a line, in any case.

        Raises:
            UserError: a file cannot be read or has no word.
        """
        lists = {}
        for code, path in files.items():
            try:
                lines = path.read_text("utf-8-sig").splitlines()
            except OSError as error:
                raise UserError(f"{WHERE}: {path}: {error.strerror}") from None
            except UnicodeDecodeError as error:
                raise UserError(f"{WHERE}: {path}: not UTF-8 ({error.reason} at byte {error.start})") from None
            lists[code] = tuple(dict.fromkeys(filter(None, (line.strip().lower() for line in lines))))
            if not lists[code]:
                raise UserError(f"{WHERE}: {path}: has no word; one a line is expected.")
        return cls(lists)

    def check(self, text: str, lang: str | None) -> RemovalReason:
        """The first word of the lists that the text has."""
        text = text.lower()
        whole: set[str] | None = None
        for code, words in self._lists.items():
            if lang not in (None, code):
                continue
            if code in UNSPACED:
                found = next((word for word, _ in words if word in text), None)
            else:
                whole = set(word_runs(text)) if whole is None else whole
                found = next((word for word, own in words if whole.issuperset(own) and _stands_alone(word, text)), None)
            if found is not None:
                return "c4_bad_word", found
        return None


def _stands_alone(word: str, text: str) -> bool:
    return re.search(rf"(?<![{WORD_CLASS}]){re.escape(word)}(?![{WORD_CLASS}])", text) is not None
