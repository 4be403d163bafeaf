"""Rows of JSON out of bytes: a byte that is none, or half a surrogate pair, costs that character and not its row."""

import json
import re
from typing import Any

from tasks.formats.encodings.decode import DecodedText, EncodingSource, decode_file
from tasks.formats.encodings.whatwg_encodings import codec_of, decode

HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""How an escaped half of a surrogate pair begins (RFC 8259, 8.2), and a whole one."""
SPACE = re.compile("[ \t\r\n\ufeff]*")
PARSER = json.JSONDecoder(strict=False)
"""A tab or other control within a string is no reason to lose the row."""


class RowDecoder:
    """Decodes the rows of a file: in `encoding`, UTF-8 if nothing else is declared (RFC 8259, 8.1).

    Where that does not fit and nothing was declared, a row is decoded as what it looks like, the next ones in the same way.
    """

    def __init__(self, encoding: str = "utf-8", by: EncodingSource = "valid") -> None:
        self._encoding, self._by = codec_of(encoding) or encoding, by
        self._guess = ""

    def decode(self, row: bytes) -> DecodedText:
        """The row's text, U+FFFD for what does not fit."""
        text, strays = decode(row, self._encoding)
        found = DecodedText(text, self._encoding, "content" if strays and self._by == "valid" else self._by, strays)
        if self._by != "valid" or strays <= 1 or found.fits:
            return found
        if self._guess:
            text, strays = decode(row, self._guess)
            if not strays:
                return DecodedText(text, self._guess, "content")
        guess = decode_file(row)
        if guess is None:
            return found
        self._guess = guess.encoding
        return guess


def parse_json_values(text: str) -> list[Any]:
    """The JSON values of a line: one, or several where files were joined without a line end. Byte order marks between
    them, as `cat` leaves them, are passed over. Halves of surrogate pairs become U+FFFD.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return _values(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _values(text: str) -> list[Any]:
    values, at = [], _space(text, 0)
    while at < len(text):
        value, at = PARSER.raw_decode(text, at)
        values.append(value)
        at = _space(text, at)
    if not values:
        raise json.JSONDecodeError("Expecting value", text, 0)
    return json.loads(replace_lone_surrogates(json.dumps(values, ensure_ascii=False))) if HALF.search(text) else values  # type: ignore[no-any-return]


def _space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def replace_lone_surrogates(text: str) -> str:
    """`text`, with U+FFFD for each half of a surrogate pair: what a program leaves that cuts text by UTF-16 units."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
