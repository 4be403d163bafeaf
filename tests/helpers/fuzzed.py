"""What takes bytes of strangers, as functions of bytes that a fuzzer calls: nothing but outcomes and clear errors come out.

`make fuzz` feeds them what atheris makes of the seeds (tests/seeds); the tests feed them the seeds themselves, and
what was once found. An exception that leaves a function here is a defect.
"""

import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.clean.clean_text import clean_row
from tasks.clean.dropped_lines import DroppedLines
from tasks.clean.html.extract import MAX_COMPLEXITY, complexity, is_simple
from tasks.clean.pii_mask import RULES
from tasks.clean.quality_filters import Removal, apply_filters
from tasks.clean.stage import CleanParams
from tasks.clean.warc_reader import read_pages as read_archive
from tasks.conversations.conversation import messages_of
from tasks.conversations.instruction_formats import read_records, to_messages
from tasks.conversations.turns import RejectedRecord
from tasks.core.errors import UserError
from tasks.core.graph import load_graph
from tasks.core.params import check_params, read_yaml
from tasks.http import content_encoding
from tasks.instruct.dialogue_rules import check_dialogue
from tasks.instruct.pydoc_questions import pydoc_questions
from tasks.scrape.crawler.fetch_result import TEXT_TYPES, result_of_response
from tasks.scrape.crawler.links import Scope
from tasks.scrape.crawler.page_parser import page_outcome
from tasks.scrape.crawler.robots_txt import RobotsRules, parse_robots_txt
from tasks.scrape.crawler.sitemaps import read_sitemap
from tasks.scrape.files.file_reader import ReadOptions, read_file, read_pages
from tasks.scrape.files.row_documents import Columns
from tasks.scrape.sources import WebSource
from tasks.similarity.canonical_text import canonical_text
from tests.helpers.checkout import ROOT

SEEDS = ROOT / "tests" / "seeds"
URL = "http://site.test/a/b?c=d"
SCOPE = Scope(WebSource(name="s", start=(URL,)))
KINDS = ("jsonl", "json", "csv", "tsv", "parquet", "mbox", "text", "markdown")
STRICT = CleanParams(languages=None, rules=("gopher_quality", "gopher_repetition", "c4", "fineweb"))
STAGES = list(load_graph(ROOT))
_file = Path(tempfile.gettempdir())


def visit(data: bytes) -> None:
    """A status line, headers and, after an empty line, the body of an answer; also as robots.txt and as a sitemap."""
    from scrapy.http import Response

    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    status = int(first[:4]) if first[:4].strip().isdigit() else 200
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers.setdefault(name.strip(), []).append(value.strip())
    result = result_of_response(URL, Response(URL, status, headers, body), 1 << 20, TEXT_TYPES)
    if result.redirect_target is not None:
        with suppress(ValueError):
            SCOPE.link(result.redirect_target)
    if result.outcome.name == "saved":
        assert page_outcome(URL, result, None, None, "2026-01-02T03:04:05Z", SCOPE, "agent", ()).outcome.name
    with suppress(ValueError, content_encoding.TooLarge, content_encoding.Undecodable):
        read_sitemap(body, 1000)
    RobotsRules(parse_robots_txt(body)).refusal(URL, "agent", 60)


def archive(data: bytes) -> None:
    """A file of web archive records."""
    for page in read_archive(_written(data), 100_000, 100_000):
        assert page.problem is None or all(page.problem)


def rows(data: bytes) -> None:
    """A file of one of KINDS, which the first byte tells."""
    kind, path = KINDS[data[0] % len(KINDS)] if data else "text", _written(data[1:])
    with suppress(UserError):
        if kind == "mbox":
            list(read_pages(path, kind, path.parent, 100_000))
        else:
            for item in read_file(path, kind, path.parent, ReadOptions(Columns("text", "messages"), None, 100_000)):
                assert isinstance(item.text, str)
    if kind in ("jsonl", "json", "parquet"):
        named = path.rename(path.with_suffix(f".{kind}"))
        with suppress(UserError):
            for _, record in read_records(named):
                with suppress(RejectedRecord):
                    check_dialogue(to_messages(record, "auto", Counter()), 4000, 0.5)


def text(data: bytes) -> None:
    """The text of a document, which is cleaned and judged, asked about, and compared."""
    given = data.decode("utf-8", "replace")
    row: dict[str, Any] = {"text": given, "meta": None}
    counters = {name: Counter[str]() for name in ("masked", "messages")}
    with suppress(Removal):
        prose, said = clean_row(row, True, tuple(RULES), counters)
        apply_filters(prose, STRICT, said, DroppedLines())
    canonical_text(row["text"])
    messages_of(given)
    pydoc_questions("http://h/mod.html", given)
    assert not is_simple(given) or complexity(given) <= MAX_COMPLEXITY


def params(data: bytes) -> None:
    """A params.yaml."""
    with suppress(UserError):
        check_params(read_yaml(_written(data)), STAGES)


TARGETS = {"visit": visit, "archive": archive, "rows": rows, "text": text, "params": params}


def _written(data: bytes) -> Path:
    global _file
    if not _file.is_file():
        _file = Path(tempfile.mkdtemp(prefix="textmill-fuzz-")) / "input"
    for other in _file.parent.iterdir():
        other.unlink()
    _file.write_bytes(data)
    return _file
