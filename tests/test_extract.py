"""Extraction: what each tier and format keeps, and pages that hang or kill the parser."""

import os
import signal
from collections.abc import Iterator

import pytest

from tasks.clean import CleanParams
from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.web.extract import How, extract_page
from tasks.web.extractor import ExtractionFailed, Extractor

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


def test_markdown_keeps_headings_lists_tables_and_code(extractor: Extractor) -> None:
    text, title = extractor.extract(PAGE, How("precise", "markdown", True, ("div.ad",)), 30)
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


def test_the_precise_tier_has_no_memory_of_other_pages(extractor: Extractor) -> None:
    texts = {extractor.extract(PAGE, How("precise"), 30) for _ in range(5)}
    assert len(texts) == 1
    assert "**" not in texts.pop()[0]


def test_the_process_gives_what_the_function_gives(extractor: Extractor) -> None:
    for how in (How(), How(main_content=False), How(skip_elements=("footer",)), How("precise")):
        assert extractor.extract(PAGE, how, 30) == extract_page(PAGE, how)


def test_a_page_that_hangs_is_all_that_is_lost(extractor: Extractor) -> None:
    for _ in range(2):
        with pytest.raises(ExtractionFailed) as failed:
            extractor.extract(SLOW, How(), 0.5)
        assert failed.value.args == ("extraction_timeout", "more than 0.5 s of processor time")
        assert "fox" in extractor.extract(PAGE, How(), 30)[0]


def test_a_parser_that_dies_is_started_again(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor.extract(PAGE, How(), 30)
    assert extractor._process is not None
    assert extractor._process.pid is not None
    os.kill(extractor._process.pid, signal.SIGSTOP)  # it reads nothing until it is killed below
    pid = extractor._process.pid
    connection = extractor._connection
    assert connection is not None
    monkeypatch.setattr(type(connection), "poll", lambda *_: os.kill(pid, signal.SIGKILL) or True)
    with pytest.raises(ExtractionFailed) as failed:
        extractor.extract(PAGE, How(), 30)
    monkeypatch.undo()
    assert failed.value.args == ("extraction_crashed", f"the process ended with {-signal.SIGKILL}")
    assert "fox" in extractor.extract(PAGE, How(), 30)[0]


@pytest.mark.parametrize("block", [{"format": "markdown"}, {"extraction": "precise", "main_content": False}])
def test_what_a_tier_cannot_do_is_said(block: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"params\.yaml: clean.*precise"):
        validate(CleanParams, block, "params.yaml: clean")
