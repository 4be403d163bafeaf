"""Text mended and measured: known values, and that what is mended is clean, stays so, and clean text is left alone."""

import unicodedata

import ftfy
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.clean import text_measures
from tasks.clean.normalize import normalize


def test_mending() -> None:
    assert normalize("cafÃ© â€œsoâ€\x9d", True) == "café “so”"
    assert normalize("e\u0301te\u0301", True) == "été"
    assert normalize("a\x00b\u200bc\ufeffd\x1b[31m", True) == "abcd"
    assert normalize("one\u00a0two  \r\n\r\n\r\n\r\n    three\t\u2028four", True) == "one two\n\n    three\nfour"
    assert normalize("I &lt;3 you", True) == "I <3 you"
    assert normalize("write &lt; for <", False) == "write &lt; for <"
    assert normalize("👩\u200d👩\u200d👧", True) == "👩\u200d👩\u200d👧"
    assert normalize("the eﬃcient oﬃce", True) == "the efficient office"  # how a PDF was set
    assert (
        normalize("a\U000e0067\U000e007fb \u200bc", True) == "ab c"
    )  # tags that spell no flag, and a space that ends no word


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_mended_text_is_clean(text: str) -> None:
    mended = normalize(text, False)
    assert not any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" for character in mended)
    assert unicodedata.is_normalized("NFC", mended)
    assert "\n\n\n" not in mended
    assert all(line == line.rstrip() for line in mended.split("\n"))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_mending_twice_is_mending_once(text: str) -> None:
    once = normalize(text, False)
    assert normalize(once, False) == once


PIECES = [
    "&amp;",
    "&lt;",
    "&hellip;",
    "<b>",
    "Ã©",
    "â€œ",
    "\x9d",
    "e\u0301",
    "\r",
    "\n",
    "\n",
    " ",
    "\xa0",
    "word",
    "€",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.booleans())
def test_no_line_that_ftfy_would_mend_is_kept_from_it(text: str, unescape: bool) -> None:
    everything = ftfy.TextFixerConfig(
        unescape_html="auto" if unescape else False,
        uncurl_quotes=False,
        fix_character_width=False,
        fix_latin_ligatures=False,
        normalization=None,  # made afterwards
    )
    assert normalize(text, unescape) == normalize(ftfy.fix_text(text, everything), False)


CLEAN = [
    "def f(a, b=1):",
    "    return a",
    "",
    "Grüße aus Köln – “so”.",
    "日本語 العربية",
    "今天天气很好，老师问：“喜欢吗？”（大家都笑了）；后来！",
    "\u3000\u3000「はい！」と答えました（みんな）。ＡＢＣ１２３ ｶﾅ",
    "ﬁ is U+FB01, ĳs is ice, ǆep is a pocket",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f 🇩🇪 ❤\ufe0f 👍🏽",
    "ភាសា\u200bខ្មែរ ภาษา\u200bไทย می\u200cخواهم क\u094d\u200dष",
    "x\ty",
    "👩\u200d👧 1 < 2 & 3",
    "é ½ × œ",
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(CLEAN), min_size=1, max_size=6))
def test_sound_text_is_not_changed(lines: list[str]) -> None:
    text = "\n".join(lines).strip("\n")
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    assert normalize(text, False) == text


def test_measures_have_known_values() -> None:
    assert text_measures.character_entropy(text_measures.count_characters("abcd" * 9)) == 2.0
    assert text_measures.character_entropy(text_measures.count_characters("aaaa")) == 0.0
    assert text_measures.duplicate_line_ratio("abcd\nabcd\nab\n\n") == 4 / 10
    assert text_measures.symbol_ratio(text_measures.count_characters("ab ++ c!")) == 3 / 6
    assert text_measures.top_ngram_ratio("a b a b c d", 2) == 4 / 6
    assert text_measures.top_ngram_ratio("a b c d", 2) == 0.0
    assert text_measures.zlib_ratio("a" * 100_000) < 0.01
