"""Encodings by the names that the web gives them, decoded as browsers decode them (WHATWG Encoding Standard).

Python's codecs are narrower: its `shift_jis` has no ①, its `euc_kr` not the half of Hangul. Each label stands for the
widest encoding that is written under it, and what Python's codec of that lacks or reads otherwise is set right here.
"""

import codecs
import re
from collections.abc import Callable
from functools import lru_cache

REPLACEMENT = "\ufffd"
LABEL = re.compile(r"[\w.:+-]{1,40}", re.ASCII)
WIDER = {
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "cp950": "big5hkscs",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-11": "cp874",
}
"""Python's codec → the one that browsers use."""

OTHER_LABELS = {
    **dict.fromkeys(("x-mac-cyrillic", "x-mac-ukrainian"), "mac_cyrillic"),
    **dict.fromkeys(("iso-2022-kr", "csiso2022kr"), "iso2022_kr"),  # browsers refuse these two, for scripts' sake
    "hz-gb-2312": "hz",
    "x-user-defined": "cp1252",
}
NO_ENCODINGS = frozenset(("idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined"))

AS_BROWSERS = {
    "cp932": str.maketrans("\uf8f0\uf8f1\uf8f2\uf8f3", 4 * REPLACEMENT),
    "euc_jp": str.maketrans("〜‖−¢£¬", "～∥－￠￡￢"),
    "big5hkscs": str.maketrans("•､‾∼♁☉／＼¥¢£", "‧﹑¯～⊕⊙∕﹨￥￠￡"),
    "gb18030": str.maketrans(
        "\ue5e5\ue78d\ue78e\ue78f\ue790\ue791\ue792\ue793\ue794\ue795\ue796\ue7c7"
        "\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864",
        "\u3000︐︒︑︓︔︕︖︗︘︙ḿ龴龵龶龷龸龹龺龻",
    ),
    "koi8-u": str.maketrans("╝╬", "ўЎ"),
}
"""Characters that Python's codec reads out of a code which the Encoding Standard gives to another."""

HKSCS = """
877a㡵 877b𡵓 877c𣚞 877d𦀡 877e㻬 87a1𥣞 87a2㫵 87a3竼 87a4龗 87a5𤅡 87a6𨤍 87a7𣇪 87a8𠪊 87a9𣉞 87aa䌊 87ab蒄
87ac龖 87ad鐯 87ae䤰 87af蘓 87b0墖 87b1靊 87b2鈘 87b3秐 87b4稲 87b5晠 87b6権 87b7袝 87b8瑌 87b9篅 87ba枂 87bb稬
87bc剏 87bd遆 87be㓦 87bf珄 87c0𥶹 87c1瓆 87c2鿇 87c3垳 87c4䤯 87c5呌 87c6䄱 87c7𣚎 87c8堘 87c9穲 87ca𧭥 87cb讏
87cc䚮 87cd𦺈 87ce䆁 87cf𥶙 87d0箮 87d1𢒼 87d2鿈 87d3𢓁 87d4𢓉 87d5𢓌 87d6鿉 87d7蔄 87d8𣖻 87d9䂴 87da鿊 87db䓡
87dc𪷿 87dd拁 87de灮 87df鿋 8e69箸 8e6f簆 8e7e糎 8eab緒 8eb4縝 8ecd者 8ed0耨 8f57菁 8f69蒨 8f6e萏 8fcb覦 8fcc覩
8ffe起 906d都 907a銹 90dc靜 90f1響 91bf鼖 9244蔃 92af兙 92b0兛 92b1兝 92b2兞 92c8鍮 92d1瑹 9447浧 94ca禛 95d9邗
9644靝 96ed瀞 96fc嬨 9b76爁 9b78矗 9b7b纇 9bc6駖 9bde釔 9bec惞 9bf6澶 9c42輶 9c53侻 9c62營 9c68鄄 9c6b鷰 9c77菏
9cbc尐 9cbd秣 9cd0婧 9d57輋 9d5a筑 9dc4拐 9ea9恢 9eef痹 9efd汊 9f60鬮 9f66鼗 9fcb僭 9fd8弌 a063蠏 a077拎 a0d5瑨
a0df煢 a0e4牐 a1fe／ a240＼ a3e0␡ a3e1€ c6cf廴 c6d3无 c6d5癶 c6d7隶 c6de〃 c6df仝 fa5f倩 fa66偽 fabd包 fac5卄 fad5卿
fb48嘅 fbb8婷 fbf3幵 fbf9廐 fc4f彘 fc6c悤 fcb9撐 fce2晴 fcf1杞 fdb7沜 fdb8渝 fdbb港 fdf1煮 fe52猪 fe6f瑜 feaa瓩
fedd砉
"""
"""Codes of Big5 and their characters which Python's codec of HKSCS-2004 has not: those of HKSCS-2008, and second codes."""

SURROGATES = re.compile(rb"(?:\xed[\xa0-\xbf][\x80-\xbf])++")
"""UTF-16's units written in UTF-8's way (CESU-8), as programs do that take them for characters."""

ESCAPE = re.compile(rb"\x1b(\([BJI]|\$[@BA]|\$\([CD])")
SET_OF_ESCAPE = {
    b"$@": "euc_jp",
    b"$B": "euc_jp",
    b"$A": "gb18030",
    b"$(C": "cp949",
    b"$(D": "jisx0212",
    b"(I": "cp932",
}
HIGH = bytes(byte | 0x80 if 0x21 <= byte <= 0x7E else byte for byte in range(256))


@lru_cache(1024)
def codec_of(label: str) -> str | None:
    """The codec for a label, in any case; None for one that neither browsers nor Python know."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    label = label.strip().lower()
    if not LABEL.fullmatch(label):
        return None
    if label in OTHER_LABELS:
        return OTHER_LABELS[label]
    name = map_encoding_to_html5(label, fallback_utf8=False)
    if name is None:
        try:
            bytes(4).decode(label)  # a LookupError also for a codec of bytes to bytes
            name = codecs.lookup(label).name
        except (LookupError, ValueError):
            return None
    name = name.lower()
    return None if name in NO_ENCODINGS else WIDER.get(name, name)


def decode(content: bytes, codec: str) -> tuple[str, int]:
    """The text, U+FFFD in the place of what is none in the codec, and how often that was so."""
    if codec == "iso2022_jp":
        parts = [_decode(part, of) for part, of in _sets(content)]
        return "".join(text for text, _ in parts), sum(misfits for _, misfits in parts)
    return _decode(content, codec)


def _decode(content: bytes, codec: str) -> tuple[str, int]:
    sound = codec != "cp932"  # which gives private characters to bytes that are none
    try:
        text = content.decode(codec)
    except UnicodeDecodeError:
        if codec == "utf-8":
            content = SURROGATES.sub(_joined, content)
        text, sound = content.decode(codec, f"textmill.{codec}" if codec in MORE_CHARACTERS else "replace"), False
    if codec in AS_BROWSERS and not text.isascii():
        text = text.translate(AS_BROWSERS[codec])
    return text, 0 if sound else text.count(REPLACEMENT)


def _joined(surrogates: re.Match[bytes]) -> bytes:
    units = surrogates.group().decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass")
    return units.decode("utf-16-le", "replace").encode()


def _sets(content: bytes) -> list[tuple[bytes, str]]:
    """ISO-2022-JP (RFC 1468, RFC 1554) in stretches of one character set, each with a codec that reads it."""
    first, *others = ESCAPE.split(content)
    found = [(first, "ascii")]
    for escape, stretch in zip(others[::2], others[1::2], strict=True):
        codec = SET_OF_ESCAPE.get(escape, "ascii")
        if codec != "ascii":
            stretch = stretch.translate(HIGH)
        if codec == "jisx0212":
            stretch, codec = re.sub(rb"[\xa1-\xfe]{2}", rb"\x8f\g<0>", stretch), "euc_jp"
        found.append((stretch, codec))
    return found


def _in_euc_jp(pair: bytes) -> str:
    """What EUC-JP has beyond JIS X 0208 (NEC's row 13, IBM's kanji): the same places as in Shift_JIS."""
    lead, trail = divmod((pair[0] - 0xA1) * 94 + pair[1] - 0xA1, 188)
    return bytes((lead + (0x81 if lead < 0x1F else 0xC1), trail + (0x40 if trail < 0x3F else 0x41))).decode("cp932")


IN_BIG5 = {bytes.fromhex(entry[:4]): entry[4:] for entry in HKSCS.split()} | {
    bytes((0xA3, 0xC0 + code)): chr(0x2400 + code)
    for code in range(32)  # control pictures
}
MORE_CHARACTERS: dict[str, tuple[re.Pattern[bytes], Callable[[bytes], str]]] = {
    "euc_jp": (re.compile(rb"[\xa1-\xfe]{2}"), _in_euc_jp),
    "big5hkscs": (re.compile(b"|".join(map(re.escape, IN_BIG5))), IN_BIG5.__getitem__),
    "gb18030": (re.compile(rb"\x80"), lambda _: "€"),
}


def _register(codec: str) -> None:
    pattern, read = MORE_CHARACTERS[codec]

    def extended(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        if found := pattern.match(error.object, error.start):
            try:
                return read(found.group()), found.end()
            except UnicodeDecodeError:
                pass
        return REPLACEMENT, error.end

    codecs.register_error(f"textmill.{codec}", extended)


for _codec in MORE_CHARACTERS:
    _register(_codec)
