"""Codings of bodies are undone within bounds, and what is broken says so."""

import gzip
import zlib

import pytest

from tasks.http import content_encoding


def test_content_encodings() -> None:
    text = b"some text " * 1000
    raw_deflate = zlib.compress(text)[2:-4]
    for coding, body in [
        ("gzip", gzip.compress(text)),
        ("deflate", zlib.compress(text)),
        ("deflate", raw_deflate),
        ("identity", text),
        ("", text),
        ("deflate, gzip", gzip.compress(zlib.compress(text))),
        ("gzip", gzip.compress(text[:5000]) + gzip.compress(text[5000:])),
    ]:
        assert content_encoding.decode_content(body, coding, len(text)) == text
    with pytest.raises(content_encoding.TooLarge):
        content_encoding.decode_content(gzip.compress(text), "gzip", len(text) - 1)
    for broken in (gzip.compress(text)[:-1], b"no gzip", gzip.compress(text)[:30]):
        with pytest.raises(content_encoding.Undecodable):
            content_encoding.decode_content(broken, "gzip", 10**6)
    with pytest.raises(content_encoding.Undecodable, match="br"):
        content_encoding.decode_content(b"x", "br", 10)


def test_what_follows_a_gzip_body_is_none_of_it() -> None:
    packed = gzip.compress(b"one") + gzip.compress(b"two")
    for tail in (b"", b"\n", bytes(8), b"\x1f", b"<!-- by a proxy -->"):
        assert content_encoding.decode_content(packed + tail, "gzip", 10) == b"onetwo"
    for cut in (packed[:-1], packed[:-20], packed + b"\x1f\x8b"):
        with pytest.raises(content_encoding.Undecodable):
            content_encoding.decode_content(cut, "gzip", 10)
