"""Extraction: what each tier and format keeps, and pages that hang or kill the parser."""

import os
import re
import signal
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.clean.extraction_process import ExtractionFailed, Extractor
from tasks.clean.html.extract import (
    MAX_COMPLEXITY,
    ExtractionOptions,
    complexity,
    decode,
    extract_page,
    extract_with_resiliparse,
    is_simple,
)
from tasks.clean.normalize import normalize
from tasks.clean.stage import CleanParams
from tasks.core.errors import UserError
from tasks.core.params import validate

PARAGRAPH = "The quick brown fox jumps over the lazy dog while seven wizards watch from a distant hill and say nothing."
PAGE = f"""<html><head><title>A  page</title></head><body><nav><a href=/>Home</a> <a href=/b>About us</a></nav><article>
<h1>Top</h1><p>{PARAGRAPH}</p><h2>Below</h2><ul><li>alpha item</li><li>beta item</li></ul>
<table><tr><th>Name</th><th>Age</th></tr><tr><td>Ann</td><td>31</td></tr></table>
<pre><code>def f(x):
    return x + 1</code></pre><p>{PARAGRAPH} It is <b>so</b>.</p><div class="ad">Buy our things at once</div></article>
<footer>Copyright somebody</footer></body></html>"""
SLOW = "<p " + " ".join(f"a{n}=1" for n in range(100_000)) + ">x"  # resiliparse takes half a minute for it


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    one = Extractor()
    yield one
    one.close()


TIERS = pytest.mark.parametrize("tier", ["fast", "precise"])


@TIERS
def test_markdown_keeps_headings_lists_tables_and_code(extractor: Extractor, tier: str) -> None:
    page = PAGE.replace("<article>", "<div><div><article>")  # resiliparse takes a list near the top for navigation
    text, title = extractor.extract(page, ExtractionOptions(tier, "markdown", True, ("div.ad",)), 30)
    assert title == "A page"
    for kept in (
        "# Top\n",
        "## Below\n",
        "- alpha item\n- beta item",
        "| Ann | 31 |",
        "```\ndef f(x):\n    return x + 1\n```",
    ):
        assert kept in text
    for gone in ("Home", "Copyright", "Buy our"):
        assert gone not in text


MARKDOWN = {  # HTML: the Markdown of the fast tier
    "<h3>On <code>len</code> and <a href=/x>links</a></h3><p>so": "### On `len` and links\n\nso",
    "<ul><li>a<ul><li>b<p>more of b</p><li>c</ul><li>d</ul>e": "- a\n  - b\n\n    more of b\n\n  - c\n- d\n\ne",
    f"<ol>{'<li>a' * 9}<li>b<ol><li>in</ol>out</ol>": "\n".join(f"{n}. a" for n in range(1, 10))
    + "\n10. b\n    1. in\n\n    out",
    "<ul><ul><li>deep<li>again</ul></ul>": "- deep\n- again",
    "<ol><li>run<pre>if a &lt; b:\n    go</pre>then</ol>": "1. run\n\n   ```\n   if a < b:\n       go\n   ```\n\n   then",
    "<pre><code>\n\n  a = &lt;b&gt;\n\n\tc # no *mark*</code></pre>": "```\n  a = <b>\n\n\tc # no *mark*\n```",
    "<pre>say ``` or</pre><p>and <code>`x`</code>, <code>&lt;p&gt;</code>": "````\nsay ``` or\n````\n\nand `` `x` ``, `<p>`",
    "<table><tr><th>a<th>b|c<tr><td colspan=2><p>1</p><p>2</p><tr><td><td>3</table>": (
        "| a | b\\|c |\n| --- | --- |\n| 1 2 |  |\n|  | 3 |"
    ),
    "<table><tr><td>menu<td><table><tr><td>a<td>b<tr><td>c<td>d</table></table>": (
        "menu\n\n| a | b |\n| --- | --- |\n| c | d |"
    ),
    "<table><tr><td>only<tr><td>one column</table>": "only\none column",
    "<p># no heading &amp; no `code`\U0001fffe\U0003fffe<h2> </h2>": "# no heading & no `code`",
}


@pytest.mark.parametrize("html", MARKDOWN)
def test_markdown_of_the_fast_tier(html: str) -> None:
    assert extract_page(html, ExtractionOptions("fast", "markdown", False))[0] == MARKDOWN[html]


TAGS = re.findall(r"\w+", "p h1 h4 ul ol li pre code table tr td th div dl dt dd a b span blockquote nav")
trees = st.recursive(
    st.sampled_from(["word", "two words", "&lt;b&gt;", "x<br>y", " ", "<hr>"]),
    lambda inner: st.builds(
        lambda tag, parts: f"<{tag}>{' '.join(parts)}</{tag}>",
        st.sampled_from(TAGS),
        st.lists(inner, max_size=4),
    ),
    max_leaves=25,
)


def test_main_content_has_every_mark() -> None:
    body = "".join(f"<h{n}>Of level {n}</h{n}><p>{PARAGRAPH} It is <code>{'`' * n} x</code>.</p>" for n in range(1, 7))
    table = "<table><tr><td>a<td>b<tr><td><b>c</b><td>d</table>"
    html = (
        f"<html><body><nav>{PARAGRAPH}</nav><main>{body}<pre>x\n  y</pre>{table}<p>{PARAGRAPH}</p></main></body></html>"
    )
    main, whole = (
        extract_page(html, ExtractionOptions("fast", "markdown", main_content))[0] for main_content in (True, False)
    )
    assert main == whole.removeprefix(f"{PARAGRAPH}\n\n") != whole
    assert all(f"{'#' * n} Of level {n}\n" in main for n in range(1, 7))
    assert "```\nx\n  y\n```\n\n| a | b |\n| --- | --- |\n| c | d |" in main


# Not lists in preformatted text, where an empty item of a list keeps its number in Markdown alone.
@settings(max_examples=300, deadline=None)
@given(trees.filter(lambda html: not re.search("<pre>.*<(?:ol|ul|li)>", html, re.DOTALL)), st.booleans())
def test_both_formats_say_the_same_letters(html: str, main_content: bool) -> None:
    text, markdown = (
        extract_page(html, ExtractionOptions("fast", format, main_content))[0] for format in ("text", "markdown")
    )
    assert re.findall(r"\w", markdown) == re.findall(r"\w", text)


@settings(max_examples=100, deadline=None)
@given(trees.filter(lambda html: "<table" not in html))  # tables get their empty cells
def test_text_is_what_resiliparse_gives(html: str) -> None:
    from resiliparse.extract.html2text import extract_plain_text

    html += "<pre></pre>"  # with one, tabs are left as they are
    assert extract_page(html, ExtractionOptions(main_content=False))[0] == extract_plain_text(
        html, preserve_formatting=True
    )


def test_the_precise_tier_has_no_memory_of_other_pages(extractor: Extractor) -> None:
    texts = {extractor.extract(PAGE, ExtractionOptions("precise"), 30) for _ in range(5)}
    assert len(texts) == 1
    assert "**" not in texts.pop()[0]


def test_the_process_gives_what_the_function_gives(extractor: Extractor) -> None:
    hows = (
        ExtractionOptions(),
        ExtractionOptions(main_content=False),
        ExtractionOptions(skip_elements=("footer",)),
        ExtractionOptions(format="markdown"),
        ExtractionOptions("precise"),
    )
    for how in hows:
        assert extractor.extract(PAGE, how, 30) == extract_page(PAGE, how)


@pytest.mark.parametrize("format", ["text", "markdown"])
def test_a_page_that_hangs_is_all_that_is_lost(extractor: Extractor, format: str) -> None:
    for _ in range(2):
        with pytest.raises(ExtractionFailed) as failed:
            extractor.extract(SLOW, ExtractionOptions(format=format), 0.5)
        assert failed.value.args == ("extraction_timeout", "more than 0.5 s of processor time")
        assert "fox" in extractor.extract(PAGE, ExtractionOptions(format=format), 30)[0]


def test_a_parser_that_dies_is_started_again(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor.extract(PAGE, ExtractionOptions(), 30)
    assert extractor._process is not None
    assert extractor._process.pid is not None
    os.kill(extractor._process.pid, signal.SIGSTOP)  # it reads nothing until it is killed below
    pid = extractor._process.pid
    connection = extractor._connection
    assert connection is not None
    monkeypatch.setattr(type(connection), "poll", lambda *_: os.kill(pid, signal.SIGKILL) or True)
    with pytest.raises(ExtractionFailed) as failed:
        extractor.extract(PAGE, ExtractionOptions(), 30)
    monkeypatch.undo()
    assert failed.value.args == ("extraction_crashed", f"the process ended with {-signal.SIGKILL}")
    assert "fox" in extractor.extract(PAGE, ExtractionOptions(), 30)[0]


def test_what_a_tier_cannot_do_is_said() -> None:
    with pytest.raises(UserError, match=r"params\.yaml: clean.*precise"):
        validate(CleanParams, {"extraction": "precise", "main_content": False}, "params.yaml: clean")


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        ("Grüße, 日本".encode(), ""),
        ("\ufeffGrüße, 日本".encode(), "iso-8859-1"),
        ("Grüße, 日本".encode("utf-16"), ""),
        ("<meta charset='shift_jis'>日本".encode("shift_jis"), ""),
        ("Grüße – “so”".encode("cp1252"), "iso-8859-1"),
        ("Grüße".encode(), "no-such-charset"),
        ("Привет, как дела? Это обычный русский текст, который надо узнать.".encode("koi8-r"), ""),
    ],
)
def test_encodings(body: bytes, charset: str) -> None:
    for codec in ("utf-8-sig", "utf-16", "shift_jis", "cp1252", "koi8-r"):
        try:
            expected = body.decode(codec)
        except UnicodeDecodeError:
            continue
        if decode(body, charset) == expected:
            return
    pytest.fail(decode(body, charset))


def test_extraction_keeps_signatures_indentation_and_link_lists() -> None:
    html = (
        "<html><body><nav><a href=/>Home</a> <a href=/a>About us and more</a></nav><main><h1>module</h1><dl><dt>"
        "<strong>f</strong>(a, b=1, *, key=None)</dt><dd><span>Return&nbsp;a.<br>&nbsp;&nbsp;&nbsp;&nbsp;return&nbsp;a"
        "</span></dd></dl><script>var x = 1</script></main><footer>Copyright somebody</footer></body></html>"
    )
    text = normalize(extract_with_resiliparse(html, True, [])[0], False)
    assert "f(a, b=1, *, key=None)\nReturn a.\n    return a" in text
    assert not any(word in text for word in ("Home", "Copyright", "var x"))
    links = "See <a href=#a>A</a>,&nbsp;<a href=#b>B</a>,&nbsp;<a href=#c>C</a> here."
    html = f"<html><body><p>{links}</p>{f'<p>{PARAGRAPH}</p>' * 9}</body></html>"
    assert normalize(extract_with_resiliparse(html, True, [])[0], False).startswith("See A, B, C here.")
    assert "somebody" not in extract_with_resiliparse(html, False, ["footer"])[0]


def test_complexity_counts_what_nests() -> None:
    assert complexity("<p>x<br><li>" * 5000) == 0
    assert complexity("<div>" * 30 + "</div>" * 30) == 30
    assert complexity("<script>if (a<b) {'" + "<div>" * 5000 + "'}</script><b>x</b>") == 1
    assert complexity("<div>" * 5000) > MAX_COMPLEXITY


@given(
    st.lists(st.sampled_from(["<div>", "<b ", "x=1 " * 900, "'<", ">", "</div>", "text ", "<p>"])), st.integers(1, 900)
)
def test_a_page_that_is_simple_at_a_glance_is_simple(parts: list[str], times: int) -> None:
    html = "".join(parts) * times
    assert not is_simple(html) or complexity(html) <= MAX_COMPLEXITY
