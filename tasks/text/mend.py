"""Text mended: mojibake, Unicode form, control characters, white space. What is not broken stays as it is."""

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
SPACES = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
UNREADABLE = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufdd0-\ufdef\ufffd\ufffe\uffff\ud800-\udfff]")
NEEDS_UNESCAPING = re.compile(r"[^\t\n\r -%'-~\xa0]")  # or an ampersand
NEEDS_FTFY = re.compile(r"[^\t\n\r -~\xa0]")  # a no-break space among ASCII is no mojibake
MOST_PASSES = 10  # mending can bring together what then needs mending; each pass makes the text shorter
BLANK_LINES = re.compile(r"\n{3,}")


@cache
def _fixer(unescape: bool) -> Any:
    """Ftfy's defaults, but quotes stay curly, and entities are decoded only where `unescape` says so."""
    import ftfy

    return ftfy.TextFixerConfig(unescape_html=unescape, uncurl_quotes=False, normalization="NFC", explain=False)


def unreadable_share(text: str) -> float:
    """Share of characters that no text has: controls, noncharacters, replacement characters."""
    return len(UNREADABLE.findall(text)) / len(text) if text else 0.0


def mend(text: str, unescape: bool) -> str:
    """`text` in NFC without mojibake (ftfy), control and invisible characters; its white space mended.

    Lines end in a line feed and not in spaces, at most one is blank between two others, every space is U+0020, and
    indentation stays. `unescape` decodes HTML entities: right for plain text, where they are leftovers; wrong for text
    that came out of HTML, where those that remain are meant.
    """
    for _ in range(MOST_PASSES):
        text, again = _mend_characters(text, unescape)
        if not again:
            break
        unescape = False  # an entity that stood escaped is meant
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return (BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text).strip("\n")


def _mend_characters(text: str, unescape: bool) -> tuple[str, bool]:
    """The text with its characters mended, and whether that may have brought new damage together."""
    before = text
    plain = 0  # how much of it is text: from the first line with a tag on it is markup, in which entities are meant
    if unescape and "&" in text:
        plain = text.rfind("\n", 0, markup) + 1 if (markup := text.find("<")) >= 0 else len(text)
    text = _fix_lines(text[:plain], NEEDS_UNESCAPING, True) + _fix_lines(text[plain:], NEEDS_FTFY, False)
    if not text.isascii() or NEEDS_FTFY.search(text) or "\r" in text:
        text = LINE_BREAKS.sub("\n", text)
        text = SPACES.sub(" ", INVISIBLE.sub("", text))
        text = unicodedata.normalize("NFC", text)  # what stood apart may now meet
    return text, text != before and NEEDS_FTFY.search(text) is not None


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
