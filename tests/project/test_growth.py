"""What an adversarial text costs grows as its length: ten times as long takes ten times as long, where a square takes a hundred."""

import gzip
import time
from collections.abc import Callable

import pytest

from tasks.clean.html.extract import complexity
from tasks.clean.normalize import normalize
from tasks.clean.pii_mask import RULES as MASKS
from tasks.clean.pii_mask import mask_pii
from tasks.clean.rules.rule_sets import apply_rules
from tasks.dedup.canonical_url import canonical_url
from tasks.http.content_encoding import decode_content
from tasks.http.response import HttpResponse, decode_body
from tasks.instruct.pydoc_questions import first_sentence, pydoc_questions
from tasks.scrape.crawler import traps
from tasks.scrape.crawler.robots_meta import robots_directives

SHORT, LONG, MOST = 10_000, 100_000, 40
ALL_RULES = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
PAGE = "http://h/mod.html"


def repeat(unit: str, before: str = "", after: str = "") -> Callable[[int], str]:
    return lambda size: before + unit * (size // len(unit)) + after


MENDED = {
    "marks": repeat("\u0301\u0316", "a"),
    "marks amid what is not seen": repeat("\u0301\xad\u0316\x01", "a"),
    "marks as entities": repeat("&#x301;&#x316;", "a"),
    "marks as mojibake": repeat("Ì€Ì–", "a"),
    "mojibake": repeat("Ã¢â‚¬â„¢"),
    "escaped again and again": repeat("amp;", "&"),
    "escaped by number": repeat("#38;", "&"),
    "entities": repeat("&amp;"),
    "line ends": repeat("\r\u200b\n"),
    "C1": repeat("Ã\x83Â\x82"),
    "no-break spaces": repeat("\xc3\xa0 "),
    "blank lines": repeat("\n" + " " * 50),
}
MASKED = {
    "phone": repeat(" +" + "1" * 40 + "a"),
    "phone in groups": repeat(" +" + "1 " * 30 + "a"),
    "phone in brackets": repeat(" +1" + "(1)" * 30 + "a"),
    "e-mail": repeat("a@" + "a." * 40),
    "e-mail without end": repeat("a.", "a@"),
    "at signs": repeat("a@"),
    "IBAN": repeat(" A1A1", "GB00"),
    "token": repeat("eyJ" + "a" * 10 + "."),
    "key": repeat("-----BEGIN PRIVATE KEY-----" + "A" * 100),
    "key without end": repeat("A", "-----BEGIN PRIVATE KEY-----"),
    "keys": repeat("-----BEGIN PRIVATE KEY-----"),
    "chat token": repeat("1-", "xoxb-", "_"),
    "secret": repeat("aws_secret_access_key = "),
    "digits": repeat("1"),
    "card": repeat("4111 1111 1111 111"),
    "IPv4": repeat("1.1.1."),
    "IPv6": repeat("2abc:" + ":" * 6 + "g "),
}
ASKED = {
    "no full stop": repeat("a.b", "mod\nFunctions\nf(x)\n"),
    "members": repeat(" inherited from", "mod\nClasses\nclass A(object)\nA", "\n"),
    "calls": repeat("(", "mod\nFunctions\nf", "\n"),
}
RULED = {
    f"rule, {unit!r}": repeat(unit)
    for unit in ("'", "'.'", "a-", "a's", "(.", "1,", "a. ", "a.", "[1", ',a"', "...a", "☺", "a@")
}
LINKED = {f"link, {unit!r}": repeat(unit, "<a>") for unit in ("<", ";a", " ", ';a="', "; a = ", "<a>;")}
TAGS = {f"tags, {unit!r}": repeat(unit) for unit in ("<p/", "<li\t", "<", "<script></script>", "<br")}
EMPTY_MEMBER = gzip.compress(b"", 1, mtime=0).decode("latin-1")
MEMBERS = repeat(EMPTY_MEMBER)


def ungzipped(text: str) -> bytes:
    return decode_content(text.encode("latin-1") if text.startswith("\x1f") else gzip.compress(b"x"), "gzip", 1000)


def gzipped(text: str) -> HttpResponse:
    return HttpResponse("HTTP/1.1", 200, [("Content-Encoding", "gzip")], text.encode("latin-1"))


CASES: dict[str, tuple[Callable[[str], object], Callable[[int], str]]] = {
    **{name: (lambda text: normalize(text, True), make) for name, make in MENDED.items()},
    **{f"mask, {name}": (lambda text: mask_pii(text, tuple(MASKS)), make) for name, make in MASKED.items()},
    **{name: (lambda text: pydoc_questions(PAGE, text), make) for name, make in ASKED.items()},
    "sentence": (lambda text: first_sentence([text], "x"), repeat("a.b")),
    **{name: (lambda text: apply_rules(text, ALL_RULES), make) for name, make in RULED.items()},
    **{name: (lambda text: robots_directives("a", [text], [text]), make) for name, make in LINKED.items()},
    **{name: (complexity, make) for name, make in TAGS.items()},
    "gzip members of a response": (ungzipped, MEMBERS),
    "gzip members of a record": (lambda text: decode_body(gzipped(text), 1000), MEMBERS),
    "parents in an address": (canonical_url, lambda size: "http://a/" + "a/" * (size // 5) + "../" * (size // 5)),
    "query": (canonical_url, repeat("a=1&", "http://a/?")),
    "trap": (
        lambda text: (traps.trap_reason(text), traps.family(text), traps.growing_query(text, text + "&x=1")),
        repeat("/a", "http://h"),
    ),
    "dates in an address": (lambda text: traps.family(text), repeat("2011", "http://h/")),
}


def seconds(run: Callable[[str], object], text: str) -> float:
    began = time.process_time()
    run(text)
    return time.process_time() - began


def test_every_pattern_of_the_code_base_takes_as_long_as_its_text() -> None:
    from tests.helpers.attacks import attacks, patterns
    from tests.helpers.attacks import seconds as taken

    slow = []
    for name, (pattern, _) in patterns().items():
        for attack in attacks(pattern):
            if taken(name, attack, SHORT) < 0.002:  # a tenth of what the square takes that is slow to be seen
                continue
            ratios = (taken(name, attack, LONG) / taken(name, attack, SHORT) for _ in range(5))
            if all((ratio := found) > MOST for found in ratios):
                slow.append(f"{name}: {ratio:.0f} times as long for {attack!r}")
                break
    assert not slow


@pytest.mark.parametrize("case", CASES)
def test_cost_grows_as_length(case: str) -> None:
    run, make = CASES[case]
    run("warm")
    short, long = make(SHORT), make(LONG)
    for _ in range(5):
        before = seconds(run, short)
        if (took := seconds(run, long)) < max(MOST * before, 0.1):  # below that nothing is told
            return
    pytest.fail(f"{case}: {LONG:,} characters take {took:.2f} s, {took / before:.0f} times as long as {SHORT:,}")
