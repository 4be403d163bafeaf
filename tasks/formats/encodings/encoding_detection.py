"""The encoding of text that declares none, from what its bytes look like.

Two detectors that fail on different things are asked in turn: resiliparse's (Mozilla's, Li and Momoi 2001) is sure of short
texts and knows no Korean, IBM 855 or Mac Cyrillic; charset-normalizer knows these, and wants some hundred bytes, all valid.
Of 591 labelled samples (those of chardet and charset-normalizer, up to 4,000 characters) the first alone reads 440, the
second 562, this module 584; of 492 beginnings of 60 characters 323, 299 and 434.
"""

import re
from collections import Counter
from collections.abc import Iterator

from tasks.formats.encodings import whatwg_encodings

CONTROLS = bytes(sorted({*range(32), 127} - set(b"\t\n\r\f")))
SAMPLE_BYTES = 1 << 20
MAX_CONTROL_SHARE = 0.01
MAX_MISFIT_SHARE = 0.1

BEYOND_ASCII = re.compile(rb"[\x80-\xff]++")
WESTERN_RUN = 2
"""Letters with accents stand alone or in pairs in what Windows-1252 serves; in other scripts whole words do."""

HANGUL = re.compile(rb"[\xb0-\xc8][\xa1-\xfe]")
HZ = re.compile(rb"~\{(?:[\x21-\x77][\x21-\x7e])++~\}")
UKRAINIAN = re.compile(rb"[\xc0-\xff][\xa4\xa6\xa7\xad]|[\xa4\xa6\xa7\xad][\xc0-\xff]")
"""In KOI8-U letters stand where KOI8-R has lines to draw boxes with."""

LAST_LETTERS = re.compile(rb"[\xe0-\xfe]([\xdf\xff])")
"""The last letter of the alphabet after another: 0xFF in Windows-1251, 0xDF in Mac Cyrillic; the others are the same."""

WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
IN_EVERY_TEXT = re.compile("[ -~\n\u3000-\u3002\uff01\uff0c\uff1f]")
IN_NO_TEXT = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff]")
DOUBLE_BYTE = (
    "big5",
    "big5hkscs",
    "cp932",
    "cp949",
    "cp950",
    "gb18030",
    "gbk",
    "johab",
    "shift_jis",
    "shift_jis_2004",
    "shift_jisx0213",
)
"""charset-normalizer's names of encodings whose second byte may be a letter of ASCII."""

MULTI_BYTE = ("cp949", "cp932", "euc_jp", "gb18030", "big5hkscs")


def control_share(content: bytes) -> float:
    """Share of bytes that are control characters and no white space."""
    return 1 - len(content.translate(None, CONTROLS)) / len(content) if content else 0.0


def fits(text: str, misfits: int, codec: str) -> bool:
    """Whether `codec` is right although `misfits` of the text's characters are no characters in it.

    Of those beyond ASCII nine in ten must be; in UTF-8, which other encodings hardly ever look like, three in four.
    """
    beyond = len(text) - len(text.encode("ascii", "ignore")) if misfits else 0
    return misfits <= (0.25 if codec == "utf-8" else MAX_MISFIT_SHARE) * beyond


def detect_seven_bit(content: bytes) -> str | None:
    """The encoding of text that is written in ASCII alone and means more: ISO-2022-JP, ISO-2022-KR, HZ."""
    names = []
    if b"\x1b$" in content:
        names.append("iso2022_kr" if b"\x1b$)C" in content else "iso2022_jp")
    if b"~{" in content and HZ.search(content):
        names.append("hz")
    for name in names:
        text, misfits = whatwg_encodings.decode(content, name)
        if not text.isascii() and fits(text, misfits, name):
            return name
    return None


def detect_utf16_32(content: bytes) -> str | None:
    """The encoding of UTF-16 or UTF-32 text without a byte order mark: what hardly any other bytes make sense as."""
    found = {name: _sense(content, name) for name in WIDE}
    best = max(found, key=lambda name: found[name])
    return best if found[best] else None


def _sense(content: bytes, name: str) -> float:
    """Share of characters that each text has, of every script; 0 where there are others that none has."""
    try:
        text = content.decode(name)
    except UnicodeDecodeError:
        return 0.0
    share = len(IN_EVERY_TEXT.findall(text)) / len(text) if text else 0.0
    # Without a space or full stop in a hundred characters: any bytes look like Chinese.
    return share if share >= 0.01 and len(IN_NO_TEXT.findall(text)) <= 0.001 * len(text) else 0.0


def detect_encoding(content: bytes) -> str | None:
    """The likeliest codec of `content`, which is not UTF-8; None if it looks like no text in any."""
    for name in _guesses(content):
        text, misfits = whatwg_encodings.decode(content, name)
        strange = len(IN_NO_TEXT.findall(text))
        if fits(text, misfits, name) and strange <= MAX_CONTROL_SHARE * len(text):
            return name
    return None


def _guesses(content: bytes) -> Iterator[str]:
    if name := detect_utf16_32(content):
        yield name
    if control_share(content) > MAX_CONTROL_SHARE:  # of no other text
        return
    content = _sample(content)
    for guess in (_sure, _korean, _thorough):
        if name := guess(content):
            yield _sibling(name, content)
    # A stray byte hides an encoding from a detector that wants all to fit.
    if name := _thorough(content.translate(None, _rare(content))):
        yield _sibling(name, content)
    misfits = {name: whatwg_encodings.decode(content, name)[1] for name in MULTI_BYTE}
    yield min(misfits, key=lambda name: misfits[name])


def _sample(content: bytes) -> bytes:
    """A stretch of the content with what is beyond ASCII, from the first of it on to the end of a word."""
    first = BEYOND_ASCII.search(content)
    start = max(0, first.start() - 1000) if first else 0
    sample = content[start : start + SAMPLE_BYTES]
    return (
        sample
        if start + SAMPLE_BYTES >= len(content)
        else sample[: max(sample.rfind(b"\n"), sample.rfind(b" ")) + 1] or sample
    )


def _sure(content: bytes) -> str | None:
    from resiliparse.parse.encoding import detect_encoding

    name = whatwg_encodings.codec_of(detect_encoding(content) or "utf-8")
    if name == "utf-8":  # it does not know
        return None
    if name == "cp1252":
        runs = [len(run) for run in BEYOND_ASCII.findall(content)]
        return name if sum(run for run in runs if run > WESTERN_RUN) <= 0.25 * sum(runs) else None
    return name


def _sibling(name: str, content: bytes) -> str:
    """`name`, or the encoding that differs from it in the few letters that are there."""
    if name == "cp1251":
        last = LAST_LETTERS.findall(content)
        return "mac_cyrillic" if last.count(b"\xdf") > last.count(b"\xff") else name
    return "koi8-u" if name == "koi8-r" and UKRAINIAN.search(content) else name


def _korean(content: bytes) -> str | None:
    """EUC-KR, if nine of ten bytes beyond ASCII are in pairs that it has for Hangul."""
    beyond = sum(map(len, BEYOND_ASCII.findall(content)))
    return "cp949" if 2 * len(HANGUL.findall(content)) >= (1 - MAX_MISFIT_SHARE) * beyond else None


def _rare(content: bytes) -> bytes:
    """The bytes beyond ASCII of which there are few."""
    counts = Counter(content)
    beyond = sum(count for byte, count in counts.items() if byte > 0x7F)
    return bytes(byte for byte, count in counts.items() if byte > 0x7F and count <= max(1, 0.001 * beyond))


def _thorough(content: bytes) -> str | None:
    import charset_normalizer

    runs = [len(run) for run in BEYOND_ASCII.findall(content)]
    alone = sum(runs) < 1.5 * len(runs)  # letters that stand alone among those of ASCII are no Chinese
    found = charset_normalizer.from_bytes(
        content, preemptive_behaviour=False, cp_exclusion=list(DOUBLE_BYTE) if alone else None
    )
    best = found.best()
    return whatwg_encodings.codec_of(best.encoding) if best else None
