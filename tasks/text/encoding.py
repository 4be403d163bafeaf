"""Bytes to text, and by what right: a byte order mark, a declaration, valid UTF-8, or what the content looks like.

No encoding is guessed silently: each result says how it was found, and the stages count it.
"""

import codecs
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([\w.:-]{1,40})", re.IGNORECASE)
MAX_CONTROL_SHARE = 0.01
By = Literal["mark", "declared", "valid", "content", "replaced"]


@dataclass(frozen=True)
class Decoded:
    """Text, the encoding it was in, and how that was found.

    `by`: a byte order `mark`; `declared` by HTTP, the page or the user; `valid` UTF-8 without either; what the
    `content` looks like (resiliparse's detector); `replaced`: that too, with U+FFFD for what does not fit.
    """

    text: str
    encoding: str
    by: By

    @property
    def label(self) -> str:
        """What metrics count, e.g. `windows-1252 (content)`."""
        return f"{self.encoding} ({self.by})"

    @property
    def note(self) -> dict[str, str]:
        """What a document's `meta` says: nothing for UTF-8."""
        return {} if self.encoding == "utf-8" else {"encoding": self.label}


def mark(content: bytes) -> str | None:
    """The encoding that a byte order mark names."""
    return next((name for bom, name in MARKS if content.startswith(bom)), None)


def decode_page(body: bytes, charset: str = "") -> Decoded:
    """Decode a page: by byte order mark, else the declared charset (HTTP's, then the page's own), else as UTF-8, else
    as what the content looks like. Encoding names are read as browsers do (WHATWG Encoding Standard): ISO-8859-1
    means Windows-1252; a name that they do not know says nothing. What fits nothing is decoded with U+FFFD in the place of each error.
    """
    from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

    if marked := mark(body):
        return Decoded(body.decode(marked, "replace").removeprefix("\ufeff"), marked, "mark")
    in_page = META_CHARSET.search(body[:4096])
    for label in (charset, in_page.group(1).decode("ascii") if in_page else "", ""):
        name = map_encoding_to_html5(label, fallback_utf8=False) if label else "utf-8"
        try:
            if name:
                return Decoded(body.decode(name), name.lower(), "declared" if label else "valid")
        except (UnicodeDecodeError, LookupError):
            continue
    name = detect_encoding(body) or "utf-8"
    try:
        return Decoded(body.decode(name), name.lower(), "content")
    except UnicodeDecodeError:
        return Decoded(body.decode(name, "replace"), name.lower(), "replaced")


def decode_file(content: bytes, declared: str | None = None) -> Decoded | None:
    """Decode a text file: by byte order mark, else as `declared`, else as UTF-8, else as what it looks like.

    None if it looks like no text: its encoding does not fit, or more than 1% of it are control characters. A declared
    encoding that does not fit is not replaced by a guess.
    """
    from resiliparse.parse.encoding import detect_encoding

    choices: list[tuple[str, By]]
    if marked := mark(content):
        choices = [(marked, "mark")]
    elif declared:
        choices = [(declared, "declared")]
    else:
        choices = [("utf-8", "valid"), (detect_encoding(content) or "utf-8", "content")]
    for name, by in choices:
        try:
            text = content.decode(name).removeprefix("\ufeff")
        except (UnicodeDecodeError, LookupError):
            continue
        controls = sum(unicodedata.category(c) == "Cc" for c in text) - sum(map(text.count, "\t\n\r\f"))
        return Decoded(text, name.lower(), by) if controls <= MAX_CONTROL_SHARE * len(text) else None
    return None
