"""C4's rules. Raffel et al. 2020 (JMLR 21:140), section 2.2, and TensorFlow Datasets' c4_utils.py; as datatrove's filter.

| of a line | dropped |
| --- | --- |
| its longest word | above 1,000 characters |
| its end | none of . ? ! " ', or an ellipsis |
| its words (by white space) | fewer than 3 |
| what it says | javascript; terms of use, privacy policy, cookie policy, uses cookies, use of cookies, use cookies |

| of a page | removed |
| --- | --- |
| what a kept line says | lorem ipsum; an opening curly bracket |
| sentences in its kept lines | fewer than 5 |

Wikipedia's marks of citation ([1], [edit], [citation needed]) go from the lines. The bad words of the paper are
in bad_words.py. In a conversation only what a line says can remove it: each line is an answer to the one before, so none
is dropped and sentences are not counted.
"""

import re

from tasks.clean.dropped_lines import DroppedLines
from tasks.clean.removal_reason import RemovalReason
from tasks.clean.rules.tokenized_text import TokenizedText, count_sentences

MAX_WORD_LENGTH, MIN_WORDS, MIN_SENTENCES = 1000, 3, 5
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
ENDS = (".", "?", "!", '"', "'")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def drop_lines(text: str) -> tuple[str, DroppedLines, RemovalReason]:
    """The lines that stay, those that went by reason, and the first reason for which the whole page goes."""
    dropped = DroppedLines()
    kept: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        words = line.split()
        if any(len(word) > MAX_WORD_LENGTH for word in words):
            dropped.add("c4_too_long_word", line)
            continue
        line = CITATION.sub("", line)
        lower = line.lower()
        if not line.endswith(ENDS) or line.endswith("..."):
            dropped.add("c4_no_terminal_punc", line)
        elif len(words) < MIN_WORDS:
            dropped.add("c4_too_few_words", line)
        elif reason := forbidden_content(line):
            return text, dropped, reason
        elif "javascript" in lower:
            dropped.add("c4_javascript", line)
        elif any(policy in lower for policy in POLICIES):
            dropped.add("c4_policy", line)
        else:
            kept.append(line)
    sentences = 0
    for line in kept:
        sentences += count_sentences(TokenizedText(line))
        if sentences >= MIN_SENTENCES:
            return "\n".join(kept).strip(), dropped, None
    return text, dropped, ("c4_too_few_sentences", f"{sentences} sentences in kept lines < {MIN_SENTENCES}")


def forbidden_content(text: str) -> RemovalReason:
    """What may stand nowhere in a page. "javascript" comes after it, so a line with both removes the page."""
    if "lorem ipsum" in (lower := text.lower()):
        return "c4_lorem_ipsum", text[max(0, (at := lower.index("lorem ipsum")) - 20) : at + 40]
    if "{" in text and "javascript" not in lower:
        return "c4_curly_bracket", text[max(0, (at := text.index("{")) - 20) : at + 20]
    return None
