"""Text normalized: mojibake, Unicode form, control characters, white space. What is not broken stays as it is.

Of ftfy's fixes three are left out, for they change sound text. In 55,920 lines made of the names, amounts and dates of
CLDR's 932 locales: fix_character_width (full-width punctuation is what Chinese and Japanese are written with) 234 lines;
uncurl_quotes 17,675; fix_latin_ligatures none, but Dutch is written with ĳ and Croatian with ǆ. Its repair of mojibake
changes no line of them.
"""

import re
import unicodedata
from functools import cache
from typing import Any

LINE_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Controls, soft hyphen, zero-width space and mark, bidirectional controls, word joiner to invisible plus, surrogates,
# interlinear annotation, byte order mark, noncharacters, tags. Zero-width joiners stay: they spell words and emoji.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff"
    "\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
# But two of them are content: tags spell the flags of regions after a black flag (Unicode Technical Standard 51), and a
# zero-width space ends a word in the scripts that put no other between them (Khmer, Thai, Lao, Burmese, Tai, Javanese).
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua980-\ua9ff\uaa60-\uaadf"
FLAG = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]+\U000e007f"
MEANT = re.compile(f"({FLAG}|(?<=[{UNSPACED}])\u200b(?=[{UNSPACED}]))|{INVISIBLE.pattern}")
SPACES = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f]")  # not U+3000, with which Chinese and Japanese indent
# Ligatures of type inside a word are how a PDF was set; alone they are what the text is about.
LIGATURE = re.compile("[\ufb00-\ufb06](?:(?<=[^\\W\\d_].)|(?=[^\\W\\d_]))")
LEFT_SPACES = (" ", "\t", "\u3000")
"""All white space besides the line feed that a text has whose characters are normalized."""
UNREADABLE = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufdd0-\ufdef\ufffd\ufffe\uffff\ud800-\udfff]")
NEEDS_UNESCAPING = re.compile(r"[^\t\n\r -%'-~\xa0]")  # or an ampersand
NEEDS_FTFY = re.compile(r"[^\t\n\r -~\xa0]")  # a no-break space among ASCII is no mojibake
# What costs the square of its length: marks on one letter, which normalization sorts, and ampersands that were escaped again
# and again, of which each pass undoes one.
MOST_MARKS = 30
"""On a letter, as in the Stream-Safe Text Format (Unicode Standard Annex 15, 13); in no language there are as many."""
BEYOND_LATIN = re.compile(rf"[^\x00-\u02ff]{{{MOST_MARKS + 2},}}")
ESCAPED_AGAIN = re.compile(r"&(?:(?:amp|AMP|#0{0,6}38|#[xX]0{0,6}26);){2,}")
MOST_PASSES = 10  # mending can bring together what then needs mending; each pass makes the text shorter
BLANK_LINES = re.compile(r"\n{3,}")


@cache
def _fixer(unescape: bool) -> Any:
    """Ftfy's fixes of what is broken; entities are decoded only where `unescape` says so, NFC is made here."""
    import ftfy

    sound = {"fix_character_width": False, "fix_latin_ligatures": False, "uncurl_quotes": False}
    return ftfy.TextFixerConfig(unescape_html=unescape, normalization=None, explain=False, **sound)


def unreadable_share(text: str) -> float:
    """Share of characters that no text has: controls, noncharacters, replacement characters."""
    return len(UNREADABLE.findall(text)) / len(text) if text else 0.0


def normalize(text: str, unescape: bool) -> str:
    """`text` in NFC without mojibake (ftfy), control and invisible characters; its white space normalized.

    Lines end in a line feed and not in spaces, at most one is blank between two others, every space is U+0020 or the
    ideographic U+3000, and indentation stays. `unescape` decodes HTML entities: right for plain text, where they are
    leftovers; wrong for text that came out of HTML, where those that remain are meant.
    """
    for _ in range(MOST_PASSES):
        text, again = _normalize_characters(text, unescape)
        if not again:
            break
        unescape = False  # an entity that stood escaped is meant
    if any(f"{space}\n" in text for space in LEFT_SPACES) or text.endswith(LEFT_SPACES):
        text = "\n".join(line.rstrip() for line in text.split("\n"))
    return (BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text).strip("\n")


def _normalize_characters(text: str, unescape: bool) -> tuple[str, bool]:
    """The text with its characters normalized, and whether that may have brought new damage together."""
    before = text
    plain = 0  # how much of it is text: from the first line with a tag on it is markup, in which entities are meant
    if unescape and "&" in text:
        plain = text.rfind("\n", 0, markup) + 1 if (markup := text.find("<")) >= 0 else len(text)
    if plain:
        text = ESCAPED_AGAIN.sub("&amp;", text[:plain]) + text[plain:]
        plain -= len(before) - len(text)
    text = _fix_lines(text[:plain], NEEDS_UNESCAPING, True) + _fix_lines(text[plain:], NEEDS_FTFY, False)
    if not text.isascii() or NEEDS_FTFY.search(text) or "\r" in text:
        text = LINE_BREAKS.sub("\n", text)
        text = SPACES.sub(" ", MEANT.sub(_meant, text) if INVISIBLE.search(text) else text)
        text = LIGATURE.sub(_apart, text)
        text = unicodedata.normalize("NFC", BEYOND_LATIN.sub(_fewer_marks, text))  # what stood apart may now meet
    return text, text != before and NEEDS_FTFY.search(text) is not None


def _fewer_marks(found: re.Match[str]) -> str:
    """A run of characters with at most MOST_MARKS marks one after the other."""
    kept, marks = [], 0
    for character in found[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def _meant(found: re.Match[str]) -> str:
    return found[1] or ""


def _apart(found: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", found[0])


def _fix_lines(text: str, damage: re.Pattern[str], unescape: bool) -> str:
    """`ftfy.fix_text`, but only the lines with `damage` go through it: it looks at each line by itself, and slowly."""
    parts: list[str] = []
    done = 0
    while found := damage.search(text, done):
        import ftfy

        start = max(done, text.rfind("\n", done, found.start()) + 1)
        end = text.find("\n", found.end()) + 1 or len(text)
        parts += text[done:start], ftfy.fix_text(text[start:end], _fixer(unescape))
        done = end
    return "".join(parts) + text[done:] if parts else text
