"""Gopher's quality rules. Rae et al. 2021 (arXiv:2112.11446), A.1.1; decisions as in datatrove's GopherQualityFilter.

| measure | removed |
| --- | --- |
| words that are not only symbols | fewer than 50, more than 100,000 |
| mean length of those words | below 3, above 10 characters |
| hash signs by words | above 0.1 |
| ellipses (... or …) by words | above 0.1 |
| share of lines that begin with a bullet (• or -) | above 0.9 |
| share of lines that end in an ellipsis | above 0.3 |
| share of words with a letter | below 0.8 |
| different words of: the, be, to, of, and, that, have, with | fewer than 2 |
"""

from tasks.clean.removal_reason import RemovalReason, too_high, too_low
from tasks.clean.rules.character_classes import ALPHA, SYMBOL
from tasks.clean.rules.tokenized_text import TokenizedText

MIN_WORDS, MAX_WORDS = 50, 100_000
MIN_WORD_LENGTH, MAX_WORD_LENGTH = 3, 10
MAX_HASHES = MAX_ELLIPSES = 0.1
MAX_BULLET_LINES, MAX_ELLIPSIS_LINES = 0.9, 0.3
MIN_ALPHABETIC = 0.8
MIN_STOP_WORDS = 2
STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))


def check(page: TokenizedText) -> RemovalReason:
    """The first rule that the page fails."""
    text, lengths = page.text, page.lengths
    real = page.characters_with(SYMBOL) < lengths
    count, words = int(real.sum()), len(lengths)
    if count < MIN_WORDS:
        return "gopher_quality_short_doc", f"{count} words < {MIN_WORDS}"
    if count > MAX_WORDS:
        return "gopher_quality_long_doc", f"{count} words > {MAX_WORDS}"
    length = float(lengths[real].mean())
    lines = text.splitlines()
    bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
    ellipses = text.count("...") + text.count("…")
    open_ends = sum(line.rstrip().endswith(("...", "…")) for line in lines) if ellipses else 0
    return (
        too_low("gopher_quality_below_avg_threshold", length, MIN_WORD_LENGTH)
        or too_high("gopher_quality_above_avg_threshold", length, MAX_WORD_LENGTH)
        or too_high("gopher_quality_too_many_hashes", text.count("#") / words, MAX_HASHES)
        or too_high("gopher_quality_too_many_ellipsis", ellipses / words, MAX_ELLIPSES)
        or too_high("gopher_quality_too_many_bullets", bullets / len(lines), MAX_BULLET_LINES)
        or too_high("gopher_quality_too_many_end_ellipsis", open_ends / len(lines), MAX_ELLIPSIS_LINES)
        or too_low(
            "gopher_quality_below_alpha_threshold", int((page.characters_with(ALPHA) > 0).sum()) / words, MIN_ALPHABETIC
        )
        or _stop_words(page)
    )


def _stop_words(page: TokenizedText) -> RemovalReason:
    found: set[str] = set()
    for index in ((page.lengths >= 2) & (page.lengths <= 4)).nonzero()[0].tolist():
        if (word := page.word(index)) in STOP_WORDS:
            found.add(word)
            if len(found) == MIN_STOP_WORDS:
                return None
    return "gopher_quality_enough_stop_words", f"{len(found)} stop words < {MIN_STOP_WORDS}"
