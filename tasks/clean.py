"""Turn what was fetched into clean text: main text out of HTML, damage mended, poor text out, personal data masked.

Every page and row is either written to `documents` or, with its reason, to `removed`. A conversation is cleaned
message by message and rendered again, and judged as one text like any other. The measures and their sources are in
tasks/text/filters.py.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from tasks.core.engine import map_shards
from tasks.core.errors import UserError
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs
from tasks.core.stage import stage_main
from tasks.text import filters
from tasks.text.conversation import MARKERS, Message, render
from tasks.text.documents import REMOVED_SCHEMA, SCHEMA, document_id, read_shard, write_shard
from tasks.text.encoding import decode_page
from tasks.text.language import detect
from tasks.text.mask import Kind, mask
from tasks.text.mend import mend, unreadable_share
from tasks.text.sizes import Sizes, funnel

log = logging.getLogger(__name__)
Row = dict[str, Any]
MAX_UNREADABLE = 0.02
COUNTERS = ("removed", "masked", "messages", "languages", "encodings")
STABLE_CHARACTERS = 1000  # from here on compression says something about the text and not about zlib's start


class CleanParams(StageParams):
    """Extraction, filters and masking. A document is removed for the first filter it fails, in this order."""

    max_page_bytes: int = Field(10_000_000, ge=1, description="Bytes of a page; a larger one is removed unread.")
    main_content: bool = Field(True, description="Leave out navigation, headers and footers of pages.")
    skip_elements: tuple[str, ...] = Field((), description="CSS selectors of further page elements to leave out.")
    min_characters: int = Field(20, ge=1, description="Characters of the clean text, at least.")
    max_characters: int = Field(10_000_000, ge=1, description="Characters of the clean text, at most.")
    max_symbol_ratio: float = Field(0.4, ge=0, le=1, description="Share of symbols among visible characters.")
    max_duplicate_line_ratio: float = Field(0.85, ge=0, le=1, description="Share of text in lines that came before.")
    max_top_ngram_ratio: float = Field(0.3, ge=0, le=1, description="Share of text in the commonest pair of words.")
    min_character_entropy: float = Field(2.5, ge=0, le=20, description="Bits a character.")
    min_zlib_ratio: float = Field(0.06, ge=0, description="Compressed by uncompressed bytes, from 1,000 characters on.")
    max_zlib_ratio: float = Field(0.72, ge=0, description="The same, at most: encoded binary data has 0.75 and more.")
    languages: tuple[str, ...] | None = Field(("en",), description="ISO 639 codes to keep; null keeps all.")
    min_language_score: float = Field(0.65, ge=0, le=1, description="Below it the language is unknown (and kept).")
    min_language_letters: int = Field(60, ge=1, description="With fewer letters the language is unknown (and kept).")
    mask: tuple[Kind, ...] = Field(("email", "ip", "phone"), description="Personal data to replace.")


@dataclass(frozen=True)
class Shard:
    """An input file, the source of its pages (None for a Parquet shard of documents), and the name of its output."""

    path: Path
    source: str | None
    licence: str | None
    name: str
    robots: str | None = None

    def __str__(self) -> str:
        return str(self.path)


class Removal(Exception):
    """A document does not pass: reason and detail."""


def run(params: CleanParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Read `scrape` (web/<source>/*.warc.gz, documents/*.parquet); write `documents` and `removed`.

    Raises:
        UserError: a selector is no CSS, there is no input, or the filters leave nothing.
    """
    from tasks.web.extract import check_selectors

    check_selectors(params.skip_elements, "params.yaml: clean.skip_elements")
    shards = find_shards(inputs["scrape"])
    results = list(map_shards(partial(clean_shard, params=params, outputs=outputs.root), shards, "clean"))
    totals: dict[str, Counter[str]] = {name: Counter() for name in COUNTERS}
    for result in results:
        for name, counter in totals.items():
            counter.update(result[name])
    sizes = funnel([r["in"] for r in results], [r["out"] for r in results], totals["removed"])
    reasons = ", ".join(f"{reason} {count}" for reason, count in totals["removed"].most_common())
    if not sizes["documents_out"]:
        raise UserError(
            f"clean: none of the {sizes['documents_in']} documents of {inputs['scrape']} is left. Removed: "
            f"{reasons or 'none'}. Loosen the filters in params.yaml: clean, or add sources to scrape.sources."
        )
    log.info("clean: %d documents in, %d out; removed: %s", sizes["documents_in"], sizes["documents_out"], reasons)
    return {**sizes, **{name: dict(sorted(totals[name].items())) for name in COUNTERS[1:]}}


def find_shards(scrape: Path) -> list[Shard]:
    """The files to clean, by name; each output is named as its input, a web page's with `web-<source>-` before it."""
    about = scrape / "sources.json"
    sources: dict[str, Any] = json.loads(about.read_text("utf-8")) if about.exists() else {}
    shards = [
        Shard(path, source, known.get("licence"), f"web-{source}-{stem}", known.get("robots"))
        for path in sorted(scrape.glob("web/*/*.warc.gz"))
        if (stem := path.name.removesuffix(".warc.gz")) and (source := path.parent.name)
        for known in (sources.get(source, {}),)
    ]
    shards += [Shard(path, None, None, path.stem) for path in sorted(scrape.glob("documents/*.parquet"))]
    if not shards:
        raise UserError(f"{scrape}: neither web/*/*.warc.gz nor documents/*.parquet here. Check scrape.sources.")
    if len({shard.name for shard in shards}) < len(shards):
        raise UserError(
            f"{scrape}: a document shard has the name of a web source's. Rename the source in scrape.sources."
        )
    return shards


def clean_shard(shard: Shard, params: CleanParams, outputs: Path) -> dict[str, Any]:
    """Clean one file; returns sizes in and out by source, and counts of reasons, masks, messages, languages and encodings."""
    counters: dict[str, Counter[str]] = {name: Counter() for name in COUNTERS}
    before: dict[str, Counter[str]] = {}
    after: dict[str, Counter[str]] = {}
    kept: list[Row] = []
    removed: list[Row] = []
    for row, unescape, problem in _pages(shard, params, counters["encodings"]) if shard.source else _rows(shard):
        raw_bytes = row.pop("raw_bytes", None)
        _count(before, row, raw_bytes)
        try:
            if problem:
                raise Removal(*problem)
            _clean(row, unescape, params, counters)
        except Removal as removal:
            reason, detail = removal.args
            removed.append({**row, "reason": reason, "detail": detail})
            counters["removed"][reason] += 1
        else:
            kept.append(row)
            counters["languages"][row["lang"] or "unknown"] += 1
            _count(after, row, None)
    write_shard(pa.Table.from_pylist(kept, schema=SCHEMA), outputs / "documents" / f"{shard.name}.parquet")
    write_shard(pa.Table.from_pylist(removed, schema=REMOVED_SCHEMA), outputs / "removed" / f"{shard.name}.parquet")
    sizes: dict[str, Sizes] = {"in": before, "out": after}
    return {**sizes, **counters}


def _count(sizes: dict[str, Counter[str]], row: Row, raw_bytes: int | None) -> None:
    text = row["text"] or ""
    size = len(text.encode("utf-8", "surrogatepass")) if raw_bytes is None else raw_bytes
    sizes.setdefault(row["source"] or "", Counter()).update(documents=1, characters=len(text), bytes=size)


def _pages(
    shard: Shard, params: CleanParams, encodings: Counter[str]
) -> Iterator[tuple[Row, bool, tuple[str, str] | None]]:
    """(row, whether to decode entities, problem) for each page of a web archive; counts how they were decoded."""
    from tasks.web import archive, extract

    assert shard.source is not None  # noqa: S101
    for page in archive.read_pages(shard.path, params.max_page_bytes):
        row: Row = {
            "id": document_id(shard.source, page.url, page.body),
            "text": None,
            "url": page.url,
            "source": shard.source,
            "lang": None,
            "licence": shard.licence,
            "fetched_at": page.fetched_at,
            "meta": None,
            "raw_bytes": len(page.body),
        }
        problem = page.problem
        kind = extract.media_type(page.content_type, page.body)
        if problem is None and kind not in (*extract.HTML_TYPES, *extract.PLAIN_TYPES):
            problem = ("content_type", kind)
        about: dict[str, Any] = {"content_type": kind, **({"robots": shard.robots} if shard.robots else {})}
        if problem is None:
            decoded = decode_page(page.body, page.charset)
            encodings[decoded.label] += 1
            row["text"] = decoded.text
            about |= decoded.note
            row["meta"] = json.dumps(about, sort_keys=True)
            problem = _unreadable(row["text"])
        is_html = kind in extract.HTML_TYPES
        if problem is None and is_html:
            if (complexity := extract.complexity(row["text"])) > extract.MAX_COMPLEXITY:
                problem = ("page_too_complex", f"{complexity} nested elements or attributes > {extract.MAX_COMPLEXITY}")
            else:
                row["text"], title = extract.extract_text(row["text"], params.main_content, params.skip_elements)
                about["title"] = mend(title, False)
                row["meta"] = json.dumps(about, ensure_ascii=False, sort_keys=True)
        yield row, not is_html, problem


def _rows(shard: Shard) -> Iterator[tuple[Row, bool, tuple[str, str] | None]]:
    for row in read_shard(shard.path).to_pylist():
        yield row, True, _unreadable(row["text"] or "")


def _unreadable(text: str) -> tuple[str, str] | None:
    share = unreadable_share(text)
    return ("unreadable", f"{share:.3f} of the characters > {MAX_UNREADABLE}") if share > MAX_UNREADABLE else None


def _clean(row: Row, unescape: bool, params: CleanParams, counters: dict[str, Counter[str]]) -> None:
    """Mend, mask, judge and label a row in place; raises Removal where it does not pass."""

    def one(text: str) -> str:
        text, masked = mask(mend(text, unescape), params.mask)
        counters["masked"].update(masked)
        return text

    meta = json.loads(row["meta"]) if row["meta"] else {}
    if isinstance(meta, dict) and "messages" in meta:
        meta["messages"] = _clean_messages(meta["messages"], one, counters["messages"])
        row["meta"] = json.dumps(meta, ensure_ascii=False, sort_keys=True)
        row["text"] = render(meta["messages"])
        prose = "\n".join(message["content"] for message in meta["messages"])
    else:
        prose = row["text"] = one(row["text"] or "")
    _judge(prose, params)
    lang, score = detect(prose, params.min_language_score, params.min_language_letters)
    row["lang"] = lang or row["lang"]
    if lang and params.languages is not None and lang not in params.languages:
        raise Removal("language", f"{lang} with score {score}")


def _clean_messages(messages: Any, clean_one: Any, counters: Counter[str]) -> list[Message]:
    """Clean each content. A message left empty goes; two neighbours that then have one role become one message."""
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and m.get("role") in MARKERS and isinstance(m.get("content"), str) for m in messages
    ):
        raise Removal("malformed_conversation", "messages need a role of system, user, assistant and a text as content")
    cleaned: list[Message] = []
    counters["in"] += len(messages)
    gap = False
    for message in messages:
        content = clean_one(message["content"]).strip()
        if not content:
            counters["empty"] += 1
            gap = True
            continue
        if gap and cleaned and cleaned[-1]["role"] == message["role"]:
            cleaned[-1] = {"role": message["role"], "content": f"{cleaned[-1]['content']}\n{content}"}
            counters["joined"] += 1
        else:
            cleaned.append({"role": message["role"], "content": content})
        gap = False
    counters["out"] += len(cleaned)
    return cleaned


def _judge(text: str, params: CleanParams) -> None:
    if not text.strip():
        raise Removal("empty", None)
    length = len(text)
    if length < params.min_characters:
        raise Removal("too_short", f"{length} characters < {params.min_characters}")
    if length > params.max_characters:
        raise Removal("too_long", f"{length} characters > {params.max_characters}")
    _at_most("symbol_ratio", filters.symbol_ratio(text), params.max_symbol_ratio)
    _at_most("duplicate_lines", filters.duplicate_line_ratio(text), params.max_duplicate_line_ratio)
    _at_most("top_ngram", filters.top_ngram_ratio(text, 2), params.max_top_ngram_ratio)
    _at_least("character_entropy", filters.character_entropy(text), params.min_character_entropy)
    if length >= STABLE_CHARACTERS:
        ratio = filters.zlib_ratio(text)
        _at_least("zlib_ratio_low", ratio, params.min_zlib_ratio)
        _at_most("zlib_ratio_high", ratio, params.max_zlib_ratio)


def _at_most(reason: str, value: float, limit: float) -> None:
    if value > limit:
        raise Removal(reason, f"{value:.4g} > {limit:g}")


def _at_least(reason: str, value: float, limit: float) -> None:
    if value < limit:
        raise Removal(reason, f"{value:.4g} < {limit:g}")


if __name__ == "__main__":
    stage_main(run)
