"""Bytes to text, and by what right: a byte order mark, a declaration, valid UTF-8, or what the content looks like.

No encoding is guessed silently: each result says how it was found, and the stages count it.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tasks.formats.encodings import encoding_detection
from tasks.formats.encodings.encoding_detection import MAX_CONTROL_SHARE, control_share, fits
from tasks.formats.encodings.html_charset import prescan_charset
from tasks.formats.encodings.whatwg_encodings import codec_of, decode

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
EncodingSource = Literal["mark", "declared", "valid", "content"]


@dataclass(frozen=True)
class DecodedText:
    """Text, the encoding it was in, and how that was found.

    `by`: a byte order `mark`; `declared` by HTTP, the page or the user; `valid` UTF-8 without either; what the
    `content` looks like. `strays`: bytes that did not fit, for each of which stands U+FFFD.
    """

    text: str
    encoding: str
    by: EncodingSource
    strays: int = 0

    @property
    def label(self) -> str:
        """What metrics count, e.g. `cp1252 (content)` or `utf-8 (declared, stray bytes)`."""
        return f"{self.encoding} ({self.by}{', stray bytes' if self.strays else ''})"

    @property
    def fits(self) -> bool:
        """Whether so few bytes did not that they are strays, and the encoding is right."""
        return fits(self.text, self.strays, self.encoding)

    @property
    def meta(self) -> dict[str, str]:
        """What a document's `meta` says: nothing for UTF-8."""
        return {} if self.encoding == "utf-8" and not self.strays else {"encoding": self.label}


def bom_encoding(content: bytes) -> str | None:
    """The encoding that a byte order mark names."""
    return next((name for bom, name in BOMS if content.startswith(bom)), None)


def decode_page(body: bytes, charset: str = "", html: bool = True) -> DecodedText:
    """Decode a page: by byte order mark, else the declared charset (HTTP's, then with `html` the page's own), else as
    UTF-8, else as what the content looks like.

    Names are read as browsers do (WHATWG Encoding Standard): ISO-8859-1 means Windows-1252, a name that nobody knows
    says nothing. A declaration stands as long as what does not fit can be stray bytes (see `fits`), or is one; what does
    not fit becomes U+FFFD. Any body has a result.
    """
    if marked := bom_encoding(body):
        return _decoded(body, marked, "mark")
    doubtful = None
    for name in _declared(body, charset, html):
        found = _decoded(body, name, "declared")
        if found.fits:
            return found
        doubtful = doubtful or (found if found.strays == 1 else None)
    found = _undeclared(body)
    if doubtful and found.by != "valid":
        return doubtful
    return found


def _declared(body: bytes, charset: str, html: bool) -> Iterator[str]:
    name = codec_of(charset)
    if name and name.startswith(("utf-16", "utf-32")):  # `unicode` is said of anything
        name = None if body.isascii() and b"\0" not in body else encoding_detection.detect_utf16_32(body) or name
    if name:
        yield name
    if html and (name := codec_of(prescan_charset(body))):
        yield name


def _decoded(content: bytes, name: str, by: EncodingSource) -> DecodedText:
    text, strays = decode(content, name)
    return DecodedText(text.removeprefix("\ufeff"), name, by, strays)


def _undeclared(content: bytes) -> DecodedText:
    """Valid UTF-8 that is not full of controls, else what the content looks like; at last UTF-8 whatever it is."""
    found = _decoded(content, "utf-8", "valid")
    name: str | None
    if found.strays:
        if found.fits:
            return replace(found, by="content")
        name = encoding_detection.detect_encoding(content) or "utf-8"
    else:
        name = encoding_detection.detect_seven_bit(content)
        if name is None and control_share(content) > MAX_CONTROL_SHARE:
            name = encoding_detection.detect_utf16_32(content)
    return _decoded(content, name, "content") if name else found


def decode_file(content: bytes, declared: str | None = None) -> DecodedText | None:
    """Decode a text file: by byte order mark, else as `declared`, else as UTF-8, else as what it looks like.

    None if it looks like no text: its encoding does not fit, or more than 1% of it are control characters. A declared
    encoding that does not fit (see `decode_page`) is not replaced by a guess.
    """
    if marked := bom_encoding(content):
        found = _decoded(content, marked, "mark")
    elif declared:
        found = _decoded(content, codec_of(declared) or declared, "declared")
    else:
        found = _undeclared(content)
    if found.strays > 1 and not found.fits:
        return None
    controls = control_share(content if found.encoding == "utf-8" else found.text.encode("utf-8", "replace"))
    return found if controls <= MAX_CONTROL_SHARE else None
