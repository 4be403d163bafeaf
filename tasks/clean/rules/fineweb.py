"""FineWeb's own rules. Penedo et al. 2024 (arXiv:2406.17557), 3.6; decisions as in datatrove's FineWebQualityFilter.

| measure | removed |
| --- | --- |
| share of lines that end in a terminal punctuation mark | below 0.12 |
| share of lines of at most 30 characters | above 0.67 |
| characters in lines that came before, by characters other than line breaks | above 0.01 |
| line breaks by words | above 0.3 |

Lines of white space alone do not count, but their line breaks do.
"""

from tasks.clean.removal_reason import RemovalReason, too_high, too_low
from tasks.clean.rules.punctuation import TERMINAL
from tasks.clean.rules.repetition import find_duplicates
from tasks.clean.rules.tokenized_text import TokenizedText

MIN_PUNCTUATED, MAX_SHORT, SHORT_CHARACTERS = 0.12, 0.67, 30
MAX_REPEATED, MAX_BREAKS = 0.01, 0.3
ENDS = tuple(sorted(TERMINAL))


def check(page: TokenizedText) -> RemovalReason:
    """The first rule that the page fails."""
    text = page.text
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return "fineweb_empty", "no text"
    breaks = text.count("\n")
    punctuated = sum(line.endswith(ENDS) for line in lines) / len(lines)
    short = sum(len(line) <= SHORT_CHARACTERS for line in lines) / len(lines)
    return (
        too_low("fineweb_line_punct_ratio", punctuated, MIN_PUNCTUATED)
        or too_high("fineweb_short_line_ratio", short, MAX_SHORT)
        or too_high("fineweb_char_dup_ratio", find_duplicates(lines)[1] / (len(text) - breaks), MAX_REPEATED)
        or too_high("fineweb_list_ratio", breaks / max(len(page.spans), 1), MAX_BREAKS)
    )
