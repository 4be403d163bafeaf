"""Gopher's repetition rules. Rae et al. 2021 (arXiv:2112.11446), table A1; decisions as in datatrove's filter.

| measure, removed above | |
| --- | --- |
| share of paragraphs that came before; of characters in them | 0.30; 0.20 |
| share of lines that came before; of characters in them | 0.30; 0.20 |
| characters in the commonest 2-, 3-, 4-gram of words | 0.20, 0.18, 0.16 |
| characters in 5-, 6-, 7-, 8-, 9-, 10-grams that came before | 0.15, 0.14, 0.13, 0.12, 0.11, 0.10 |

Shares of characters are of the whole text. An n-gram's characters are counted with a space between words in the
commonest one and without in those that came before, as datatrove counts.
"""

from tasks.clean.removal_reason import RemovalReason, too_high
from tasks.clean.rules.repetition import NgramHashes, find_duplicates
from tasks.clean.rules.tokenized_text import TokenizedText

MAX_PARAGRAPHS, MAX_PARAGRAPH_CHARACTERS = 0.3, 0.2
MAX_LINES, MAX_LINE_CHARACTERS = 0.3, 0.2
MAX_TOP = {2: 0.20, 3: 0.18, 4: 0.16}
MAX_REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def split_paragraphs(stripped: str) -> list[str]:
    r"""What `re.split(r"\n{2,}", stripped)` gives, in a third of the time."""
    return [part.lstrip("\n") for part in stripped.split("\n\n") if part] or [""]


def split_lines(text: str) -> list[str]:
    r"""What `re.split(r"\n+", text)` gives."""
    first, *others = text.split("\n")
    return [first, *filter(None, others[:-1]), *others[-1:]]


def check(page: TokenizedText) -> RemovalReason:
    """The first rule that the page fails."""
    text = page.text
    if not text:
        return "gopher_repetition_empty", "no text"
    parts = (
        ("para", split_paragraphs(text.strip()), MAX_PARAGRAPHS, MAX_PARAGRAPH_CHARACTERS),
        ("line", split_lines(text), MAX_LINES, MAX_LINE_CHARACTERS),
    )
    for name, units, max_share, max_characters in parts:
        count, characters = find_duplicates(units)
        reason = too_high(f"gopher_repetition_dup_{name}_frac", count / len(units), max_share) or too_high(
            f"gopher_repetition_dup_{name}_char_frac", characters / len(text), max_characters
        )
        if reason:
            return reason
    grams = NgramHashes(page)
    for n, limit in MAX_TOP.items():
        if reason := too_high(f"gopher_repetition_top_{n}_gram", grams.top_ngram_characters(n) / len(text), limit):
            return reason
    for n, limit in MAX_REPEATED.items():
        share = grams.duplicate_ngram_characters(n) / len(text)
        if reason := too_high(f"gopher_repetition_duplicated_{n}_n_grams", share, limit):
            return reason
    return None
