"""The encoding that an HTML page declares within itself (HTML Living Standard, 13.2.3.2: prescan)."""

import re

from tasks.formats.encodings.whatwg_encodings import codec_of

LEAST_BYTES, HEAD_BYTES = 1 << 10, 1 << 16
"""Of a page that are looked through: as the standard says, and up to the end of its head, as browsers do."""

ATTRIBUTES = rb"""[^>=]*+(?:=\s*+(?:"[^"]*+"|'[^']*+')?+[^>=]*+)*+"""
# Everything that opens is taken to the end where nothing closes it, so no byte is looked at twice.
MARKUP = re.compile(
    rb"<!--(?:>|->|.*?--!?>|.*+)"
    rb"|<(?P<raw>script|style|title|textarea|xmp)(?=[\s/>])" + ATTRIBUTES + rb"(?:>(?:.*?</(?P=raw)(?=[\s/>])|.*+))?"
    rb"|<meta(?=[\s/])(?P<meta>" + ATTRIBUTES + rb")"
    rb"|<(?P<end>/head|body|frameset)(?=[\s/>])"
    rb"|<[/!?a-z]" + ATTRIBUTES,
    re.IGNORECASE | re.DOTALL,
)
ATTRIBUTE = re.compile(
    rb"""([^\s/>="'][^\s/>=]*+)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>"']++)))?""", re.IGNORECASE
)
CHARSET = re.compile(rb"""charset\s*+=\s*+["']?+\s*+([^\s"';]{1,40})""", re.IGNORECASE)
XML = re.compile(rb"""<\?xml[^>]{0,100}?\sencoding\s*+=\s*+["']([\w.:-]{1,40})["']""")


def prescan_charset(page: bytes) -> str:
    """The label in a `meta` element of the head, else in the XML declaration; empty if there is none.

    Comments, scripts and the like are passed over. A page that was read this far is not in UTF-16: that then means UTF-8.
    """
    label = _in_meta(page[:HEAD_BYTES])
    if not label and (declared := XML.match(page)):
        label = declared.group(1)
    text = label.decode("ascii", "ignore").strip()
    return "utf-8" if (codec_of(text) or "").startswith("utf-16") else text


def _in_meta(head: bytes) -> bytes:
    ended = False
    for found in MARKUP.finditer(head):
        ended = ended or found["end"] is not None
        if ended and found.start() >= LEAST_BYTES:
            break
        if found["meta"] and (label := _declared(found["meta"])):
            return label
    return b""


def _declared(meta: bytes) -> bytes:
    attributes: dict[bytes, bytes] = {}
    for name, *values in ATTRIBUTE.findall(meta):
        attributes.setdefault(name.lower(), b"".join(values))
    if b"charset" in attributes:
        return attributes[b"charset"].rstrip(b"/")
    if attributes.get(b"http-equiv", b"").strip().lower() != b"content-type":
        return b""
    found = CHARSET.search(attributes.get(b"content", b""))
    return found.group(1) if found else b""
