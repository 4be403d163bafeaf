"""Files are decoded as declared, or as their bytes say; the encoding is named with where it is known from."""

import pytest

from tasks.formats.encodings.decode import decode_file


@pytest.mark.parametrize(
    ("content", "declared", "text", "label"),
    [
        (b"", None, "", "utf-8 (valid)"),
        ("\ufeffä".encode(), None, "ä", "utf-8 (mark)"),
        ("\ufeffä".encode(), "latin-1", "ä", "utf-8 (mark)"),
        ("äöü".encode("utf-16"), None, "äöü", "utf-16 (mark)"),
        ("äöü".encode("utf-32"), None, "äöü", "utf-32 (mark)"),
        ("naïve café".encode("latin-1"), "iso8859-15", "naïve café", "iso8859-15 (declared)"),
        (
            "これは日本語の文章です。よろしくお願いします。".encode("shift_jis"),
            None,
            "これは日本語の文章です。よろしくお願いします。",
            "cp932 (content)",
        ),
    ],
)
def test_an_encoding_is_found_and_named(content: bytes, declared: str | None, text: str, label: str) -> None:
    decoded = decode_file(content, declared)
    assert decoded is not None
    assert (decoded.text, decoded.label) == (text, label)


def test_bytes_that_are_no_text() -> None:
    assert decode_file(bytes(range(256)) * 4) is None
    assert decode_file(b"\0\1\2\3") is None
    assert decode_file("日本".encode("shift_jis"), "utf-8") is None  # a declaration is not replaced by a guess
