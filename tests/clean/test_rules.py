"""Rule sets: each published threshold from both sides, kernels against plain Python, words as spaCy finds them."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.clean.dropped_lines import DroppedLines
from tasks.clean.quality_filters import Removal, apply_filters
from tasks.clean.rules.bad_words import BadWords
from tasks.clean.rules.c4 import drop_lines
from tasks.clean.rules.gopher_repetition import split_lines, split_paragraphs
from tasks.clean.rules.repetition import NgramHashes
from tasks.clean.rules.rule_sets import RULE_SETS, apply_rules
from tasks.clean.rules.tokenized_text import TokenizedText, count_sentences
from tasks.clean.stage import CleanParams
from tasks.core.errors import UserError

STOP = "the of and that"
DISTINCT = " ".join(f"word{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(200))
SOME = DISTINCT.split()


def reason(rule: str, text: str) -> str:
    verdict = RULE_SETS[rule](TokenizedText(text))
    return verdict[0].removeprefix(f"{rule}_") if verdict else ""


def filler(n: int) -> str:
    return " ".join(SOME[:n])


LINE = " ".join(SOME[:8]) + "."
LINES = [f"{STOP} {SOME[k]} {SOME[k + 50]} {SOME[k + 100]} longer." for k in range(40)]
QUALITY = {
    "short_doc": (f"{STOP} {filler(46)}", f"{STOP} {filler(45)} . ! ,"),
    "long_doc": (f"{STOP} " + "word " * 99_996, f"{STOP} " + "word " * 99_997),
    "below_avg_threshold": ("the and " + "abc " * 60, "the and " + "abc " * 59 + "ab"),
    "above_avg_threshold": (
        f"with that {'a' * 16} {'b' * 16} " + "cccccccccc " * 60,
        f"with that {'a' * 16} {'b' * 17} " + "cccccccccc " * 60,
    ),
    "too_many_hashes": (f"{STOP} {filler(86)}" + " #" * 10, f"{STOP} {filler(86)}" + " #" * 11),
    "too_many_ellipsis": (f"{STOP} {filler(85)}" + " …" * 10 + " end", f"{STOP} {filler(85)}" + " …" * 11 + " end"),
    "too_many_bullets": (
        "\n".join(["- " + x for x in LINES[:9]] + LINES[9:10]),
        "\n".join("• " + x for x in LINES[:10]),
    ),
    "too_many_end_ellipsis": (
        "\n".join([x + ".." for x in LINES[:3]] + LINES[3:10]),
        "\n".join([x + ".." for x in LINES[:4]] + LINES[4:10]),
    ),
    "below_alpha_threshold": (f"{STOP} {filler(76)}" + " 12" * 20, f"{STOP} {filler(75)}" + " 12" * 20),
    "enough_stop_words": (f"the of {filler(60)}", f"the the The {filler(60)}"),
}
FINEWEB = {
    "line_punct_ratio": (
        "\n".join(LINES[:3] + [x[:-1] for x in LINES[3:25]]),
        "\n".join(LINES[:2] + [x[:-1] for x in LINES[3:25]]),
    ),
    "short_line_ratio": (
        "\n".join(LINES[:33] + [f"{k:030d}" for k in range(67)]),
        "\n".join(LINES[:32] + [f"{k:030d}" for k in range(67)]),
    ),
    "list_ratio": (
        "\n".join([*(f"a{k} {'c' * 30}." for k in range(30)), "more " + LINES[0]]),
        "\n".join([*(f"a{k} {'c' * 30}." for k in range(30)), LINES[0]]),
    ),
}


@pytest.mark.parametrize(
    ("rule", "name", "texts"),
    [("gopher_quality", name, texts) for name, texts in QUALITY.items()]
    + [("fineweb", name, texts) for name, texts in FINEWEB.items()],
)
def test_a_threshold_from_both_sides(rule: str, name: str, texts: tuple[str, str]) -> None:
    assert reason(rule, texts[0]) == ""
    assert reason(rule, texts[1]) == name


def test_fineweb_counts_characters_of_repeated_lines() -> None:
    def page(size: int) -> str:  # one line of 21 characters comes again among `size` characters
        again = "twenty-one letters..."
        return "\n".join([again, again, *(f"{'x' * 77} {k}." for k in range(100))])[: size + 1] + "."

    for size in (2000, 2098, 2099, 2100, 2101, 2200):
        text = page(size)
        share = 21 / len(text.replace("\n", ""))
        assert (reason("fineweb", text) == "char_dup_ratio") == (share > 0.01)


@pytest.mark.parametrize(
    ("same", "other", "name"),
    [(3, 7, ""), (4, 6, "dup_para_frac")],
)
def test_gopher_repeated_paragraphs(same: int, other: int, name: str) -> None:
    text = "\n\n".join(
        [
            "so.",
            *["so."] * same,
            *(f"{SOME[k]} {SOME[k + 50]} {SOME[k + 99]} {SOME[k + 150]}." for k in range(other - 1)),
        ]
    )
    assert reason("gopher_repetition", text) == name
    assert reason("gopher_repetition", text.replace("\n\n", "\n")) == name.replace("para", "line")


words = st.lists(st.sampled_from(["a", "b", "ab", "ba", "über", "中文", "x1", "🙂"]), max_size=60)


@settings(max_examples=200, deadline=None)
@given(words, st.integers(2, 10))
def test_grams_are_those_of_plain_python(parts: list[str], n: int) -> None:
    ends = np.cumsum([len(part) + 1 for part in parts], dtype=np.int64)
    spans = np.stack([ends - [len(part) + 1 for part in parts], ends - 1], axis=1) if parts else np.zeros((0, 2), int)
    grams = NgramHashes(TokenizedText(" ".join(parts), spans.astype(np.int64)))
    joined = [" ".join(parts[k : k + n]) for k in range(len(parts) - n + 1)]
    top = Counter(joined).most_common(1)
    assert grams.top_ngram_characters(n) == (len(top[0][0]) * top[0][1] if top else 0)
    seen: set[str] = set()
    at = repeated = 0
    while at <= len(parts) - n:
        gram = "".join(parts[at : at + n])
        repeated += len(gram) if gram in seen else 0
        at += n if gram in seen else 1
        seen.add(gram)
    assert grams.duplicate_ngram_characters(n) == repeated


SPACY = {  # the answers of spacy.blank("en") 3.8
    'Hello, don\'t well-known 3.14 f(x) a=b... "quoted." x': (
        [
            "Hello",
            ",",
            "do",
            "n't",
            "well",
            "-",
            "known",
            "3.14",
            "f(x",
            ")",
            "a",
            "=",
            "b",
            "...",
            '"',
            "quoted",
            ".",
            '"',
            "x",
        ]
    ),
    "中文，你好。 John's they'll I'm. (yes!)": (
        ["中文，你好", "。", "John", "'s", "they", "'ll", "I", "'m", ".", "(", "yes", "!", ")"]
    ),
    "1-2 a... b…c $5 foo_bar x@y.org U.S. end.": (
        ["1", "-", "2", "a", "...", "b", "…", "c", "$", "5", "foo_bar", "x@y.org", "U.S.", "end", "."]
    ),
}


@pytest.mark.parametrize(("text", "expected"), SPACY.items())
def test_words_are_those_of_spacy(text: str, expected: list[str]) -> None:
    page = TokenizedText(text)
    assert [page.word(k) for k in range(len(page.spans))] == expected


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_words_lie_in_order_and_miss_nothing_but_space(text: str) -> None:
    page = TokenizedText(text)
    assert "".join(page.word(k) for k in range(len(page.spans))) == "".join(text.split())
    for rule in RULE_SETS.values():
        rule(page)


def test_sentences() -> None:
    assert count_sentences(TokenizedText('Hi there. "I am." She said! Is it? yes')) == 5
    assert count_sentences(TokenizedText("")) == 0


GOOD = "\n".join(f"{STOP} {SOME[k]} {SOME[k + 20]} number {k}." for k in range(5))


def test_c4_drops_lines_and_pages() -> None:
    extra = [
        "no end",
        "open end...",
        "two words.",
        "Please enable Javascript to go on.",
        "Read our Cookie Policy, please.",
        f"a line with {'w' * 1001} in it.",
    ]
    kept, dropped, verdict = drop_lines(GOOD + "\n" + "\n".join(extra) + "\nIt is so[12].")
    assert kept == GOOD + "\nIt is so."
    assert verdict is None
    assert dropped.counts["c4_no_terminal_punc"] == 2
    assert {
        name: dropped.counts[name] for name in ("c4_too_few_words", "c4_javascript", "c4_policy", "c4_too_long_word")
    } == {
        "c4_too_few_words": 1,
        "c4_javascript": 1,
        "c4_policy": 1,
        "c4_too_long_word": 1,
    }
    for line, name in (("Lorem ipsum dolor sit.", "c4_lorem_ipsum"), ("if (x) { this is it.", "c4_curly_bracket")):
        assert drop_lines(f"{GOOD}\n{line}")[2][0] == name  # type: ignore[index]
    assert drop_lines("\n".join(GOOD.split("\n")[:4]))[2] == ("c4_too_few_sentences", "4 sentences in kept lines < 5")


def test_a_conversation_is_not_judged_by_rules_for_prose() -> None:
    params = CleanParams(rules=("gopher_repetition", "gopher_quality", "c4", "fineweb"))
    said = "hi, how do i make a set of one?\nwrite it as {1}\nthanks, and bye"
    assert apply_filters(said, params, True, DroppedLines())[0] == said
    with pytest.raises(Removal, match="gopher_"):
        apply_filters(said, params, False, DroppedLines())
    assert apply_rules("", ("c4", "fineweb"))[2][0] == "c4_too_few_sentences"  # type: ignore[index]


BAD = BadWords({"en": ("cunt", "two words", "a$$"), "zh": ("坏词",)})


@pytest.mark.parametrize(
    ("text", "lang", "word"),
    [
        ("People of Scunthorpe, and two wordsmiths", "en", None),
        ("Such a CUNT!", "en", "cunt"),
        ("cunt", "en", "cunt"),
        ("cunt_1 and cunt2 and écunt", "en", None),
        ("say (two words), not two  words", "en", "two words"),
        ("two\nwords", "en", None),
        ("what an a$$", "en", "a$$"),
        ("aa$$ a$$a", "en", None),
        ("这里有坏词在中间", "zh", "坏词"),
        ("这里有 cunt", "zh", None),
        ("a cunt 坏词", "de", None),
        ("too short to tell: 有坏词", None, "坏词"),
        ("", None, None),
    ],
)
def test_bad_words(text: str, lang: str | None, word: str | None) -> None:
    assert BAD.check(text, lang) == (word and ("c4_bad_word", word))


lists = st.lists(st.text("ab $ßé中_", min_size=1, max_size=4).map(str.strip).filter(bool), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(lists, st.text("aAbB $ßÉé中_.\n", max_size=30))
def test_bad_words_are_those_of_c4s_pattern(words: list[str], text: str) -> None:
    pattern = rf"(?:\W|^)({'|'.join(map(re.escape, words))})(?:\W|$)"  # TensorFlow Datasets' c4_utils.py
    assert (BadWords({"en": tuple(words)}).check(text, "en") is None) == (re.search(pattern, text.lower()) is None)
    unspaced = re.search("|".join(map(re.escape, words)), text.lower())
    assert (BadWords({"th": tuple(words)}).check(text, "th") is None) == (unspaced is None)


def test_files_of_bad_words(tmp_path: Path) -> None:
    path = tmp_path / "en.txt"
    path.write_bytes("\ufeffCunt\r\n\n  two words \n".encode())
    read = BadWords.read({"en": path})
    assert [read.check(text, "en") for text in ("A cunt", "Two words")] == [
        ("c4_bad_word", "cunt"),
        ("c4_bad_word", "two words"),
    ]
    for content, said in ((b" \n\n", "has no word"), (b"\xff", "not UTF-8"), (None, "No such file")):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(UserError, match=rf"params\.yaml: clean\.bad_words: .*en\.txt: {said}"):
            BadWords.read({"en": path})


@given(st.text(alphabet="a \n", max_size=40))
def test_paragraphs_and_lines_are_those_of_the_published_patterns(text: str) -> None:
    assert split_paragraphs(text.strip()) == re.split(r"\n{2,}", text.strip())
    assert split_lines(text) == re.split(r"\n+", text)
