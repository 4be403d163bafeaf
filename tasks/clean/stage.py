"""Turn what was fetched into clean text: main text out of HTML, characters normalized, poor text out, PII masked.

Every page and row is either written to `documents` or, with its reason, to `removed`. A conversation is cleaned
message by message and rendered again, and filtered as one text like any other. The measures and their sources are in
tasks/clean/text_measures.py.
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

from tasks.clean import histogram
from tasks.clean.clean_text import Row, clean_row
from tasks.clean.dropped_lines import DroppedLines
from tasks.clean.page_rows import (
    QUARANTINE_HINT,
    ExtractionParams,
    describe_document,
    quarantine_reason,
    read_page_rows,
    unreadable_reason,
)
from tasks.clean.pii_mask import PiiKind
from tasks.clean.quality_filters import FilterParams, Language, Removal, apply_filters
from tasks.clean.removal_reason import RemovalReason
from tasks.clean.rules.bad_words import BadWords
from tasks.clean.scores import labels
from tasks.clean.scores.corpus_scores import filter_by_corpus_scores
from tasks.clean.scores.score_params import ScoreParams
from tasks.clean.url_blocklist import blocking_entry
from tasks.core.errors import UserError
from tasks.core.parallel.engine import map_shards
from tasks.core.parallel.item_guard import ItemFailed, guard_item
from tasks.core.params import require_files
from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.documents import removal_warnings, review
from tasks.documents.sections import meta_without_lines
from tasks.documents.shards import REMOVED_SCHEMA, SCHEMA, read_shard, write_shard
from tasks.documents.source_counts import SourceCounts, funnel_metrics

log = logging.getLogger(__name__)
LANGUAGE = "language_score"
COUNTS = ("removed", "masked", "messages", "languages", "encodings")
KEYS = {
    "too_short": "min_characters",
    "too_long": "max_characters",
    "symbol_ratio": "max_symbol_ratio",
    "duplicate_lines": "max_duplicate_line_ratio",
    "top_ngram": "max_top_ngram_ratio",
    "character_entropy": "min_character_entropy",
    "zlib_ratio_low": "min_zlib_ratio",
    "zlib_ratio_high": "max_zlib_ratio",
    "language": "languages",
    "c4_bad_word": "bad_words",
    **dict.fromkeys(("gopher", "c4", "fineweb"), "rules"),
    "url_blocked": "url_blocklist",
    "page_too_large": "max_page_bytes",
    "boilerplate": "max_line_page_share",
    "profanity": "max_profanity",
    "quality": "quality",
    "perplexity": "perplexity",
}
"""How a reason of removal begins → the parameter that decides."""


class CleanParams(ExtractionParams, FilterParams, ScoreParams):
    """Extraction, filters and masking. A document is removed for the first filter it fails."""

    url_blocklist: tuple[str, ...] = Field((), description="Hosts (with their subdomains) or host/path to leave out.")

    def check_paths(self, root: Path) -> None:
        """Files of bad words and of labels."""
        require_files(self.bad_words.values(), root, "clean.bad_words")
        require_files(self.quality.labels if self.quality else (), root, "clean.quality.labels")

    review: int = Field(
        0, ge=0, description="Documents of each reason and source in the sample for people; 0: no sample."
    )
    mask: tuple[PiiKind, ...] = Field(
        ("email", "ip", "phone", "credit_card", "iban", "secret"), description="Personal data to replace."
    )


@dataclass(frozen=True)
class InputFile:
    """An input file, the source of its pages (None for a Parquet shard of documents), and the name of its output."""

    path: Path
    source: str | None
    licence: str | None
    name: str
    robots: str | None = None

    def __str__(self) -> str:
        return str(self.path)


def run(params: CleanParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Read `scrape` (web/<source>/*.warc.gz, documents/*.parquet); write `documents` and `removed`.

    Beside them `examples.json` (a few removed documents of each reason) and, where params ask for them, `lines.json`,
    `models` and `review`.

    Raises:
        UserError: a selector is no CSS, there is no input, labels or bad words are no dependency of the stage in dvc.yaml
            (it would not run again when they change) or cannot be read, or the filters leave nothing.
    """
    from tasks.clean.html.extract import check_selectors

    check_selectors(params.skip_elements, "params.yaml: clean.skip_elements")
    labelled = [inputs[Path(name).name] for name in params.quality.labels] if params.quality else []
    bad_words = BadWords.read({code: inputs[Path(name).name] for code, name in params.bad_words.items()})
    files = find_input_files(inputs["scrape"])
    cleaned = partial(clean_file, params=params, bad_words=bad_words, outputs=outputs.root)
    whole = partial(cleaned, removed_for=("worker_lost", "the process that cleaned its file was killed twice"))
    results = list(map_shards(cleaned, files, "clean", on_worker_lost=whole if params.quarantine else None))
    totals: dict[str, Counter[str]] = {name: Counter() for name in COUNTS}
    for result in results:
        for name, counter in totals.items():
            counter.update(result[name])
    lines = DroppedLines()
    for result in results:
        lines.update(result["lines"], result["samples"])
    after = [result["out"] for result in results]
    second = (
        filter_by_corpus_scores(params, params.min_characters, labelled, outputs.root, outputs.work)
        if any(after)
        else None
    )
    if second:
        after = second["out"]
        totals["removed"].update(second["removed"])
        lines.update(second["lines"].counts, second["lines"].samples)
        totals["languages"] = second["languages"]
    sizes = funnel_metrics([result["in"] for result in results], after, totals["removed"])
    reasons = ", ".join(f"{reason} {count}" for reason, count in totals["removed"].most_common())
    if not sizes["documents_out"]:
        first = "".join(
            f" {removal_warnings.removal_hint('clean', r, KEYS, params)}," for r, _ in totals["removed"].most_common(1)
        )
        raise UserError(
            f"clean: none of the {sizes['documents_in']} documents of {inputs['scrape']} is left. Removed: "
            f"{reasons or 'none'}.{first or ' Loosen the filters in params.yaml: clean,'} or add sources to scrape.sources."
        )
    log.info(
        "clean: %d documents in, %d out; removed: %s", sizes["documents_in"], sizes["documents_out"], reasons or "none"
    )
    removed, documents = outputs / "removed", outputs / "documents"
    removal_warnings.warn_of_removals("clean", sizes["sources"], removed, KEYS, params)
    write_json(
        outputs / "examples.json", review.removal_examples(review.sample_documents("clean", [removed], review.EXAMPLES))
    )
    if params.review:
        drawn = review.sample_documents("clean", [removed, documents], params.review)
        review.write_review(drawn, params.review, outputs / "review")
    metrics: Metrics = {**sizes, **{name: dict(sorted(totals[name].items())) for name in COUNTS[1:]}}
    if lines.counts:
        metrics["lines"] = dict(sorted(lines.counts.items()))
        write_json(outputs / "lines.json", lines.table())
    if scores := histogram.merge_histograms(result["histograms"] for result in results) | (
        second["scores"] if second else {}
    ):
        metrics["scores"] = scores
    if labelled:
        metrics["review"] = labels.measured_precision(labelled)
    return metrics


def find_input_files(scrape: Path) -> list[InputFile]:
    """The files to clean, by name; each output is named as its input, a web page's with `web.<source>.` before it."""
    about = scrape / "sources.json"
    sources: dict[str, Any] = json.loads(about.read_text("utf-8")) if about.exists() else {}
    files = [
        InputFile(path, source, known.get("licence"), f"web.{source}.{stem}", known.get("robots"))
        for path in sorted(scrape.glob("web/*/*.warc.gz"))
        if (stem := path.name.removesuffix(".warc.gz")) and (source := path.parent.name)
        for known in (sources.get(source, {}),)
    ]
    files += [InputFile(path, None, None, path.stem) for path in sorted(scrape.glob("documents/*.parquet"))]
    if not files:
        raise UserError(f"{scrape}: neither web/*/*.warc.gz nor documents/*.parquet here. Check scrape.sources.")
    if len({file.name for file in files}) < len(files):
        raise UserError(
            f"{scrape}: a document shard has the name that web pages get. Make it again: dvc repro --force scrape"
        )
    return files


def clean_file(
    file: InputFile, params: CleanParams, bad_words: BadWords, outputs: Path, removed_for: RemovalReason = None
) -> dict[str, Any]:
    """Clean one file, or remove all of it for the reason `removed_for`.

    Returns sizes in and out by source, what COUNTS names, lines and scores.
    """
    counters: dict[str, Counter[str]] = {name: Counter() for name in COUNTS}
    before: dict[str, Counter[str]] = {}
    after: dict[str, Counter[str]] = {}
    lines = DroppedLines()
    kept: list[Row] = []
    removed: list[Row] = []
    for row, unescape, problem in _rows(file, params, counters["encodings"], removed_for):
        raw_bytes = row.pop("raw_bytes", None)
        _count(before, row, raw_bytes)
        given = dict(row)
        try:
            if problem:
                raise Removal(*problem)
            if params.url_blocklist and (entry := blocking_entry(row["url"] or "", params.url_blocklist)):
                raise Removal("url_blocked", entry)
            with guard_item(describe_document(file.path, row), len(row["text"] or ""), QUARANTINE_HINT, Removal):
                prose, is_conversation = clean_row(row, unescape, params.mask, counters)
                text, language = apply_filters(prose, params, is_conversation, lines, bad_words)
                if not is_conversation:
                    row["meta"], row["text"] = meta_without_lines(row["meta"], row["text"], text), text
        except Removal as removal:
            reason, detail, *known = removal.args
            _note(row, *known)
            removed.append({**row, "reason": reason, "detail": detail})
            counters["removed"][reason] += 1
        except ItemFailed as failure:
            reason, detail = quarantine_reason(failure, params.quarantine)
            removed.append({**given, "reason": reason, "detail": detail})
            counters["removed"][reason] += 1
        else:
            _note(row, language)
            kept.append(row)
            counters["languages"][row["lang"] or "unknown"] += 1
            _count(after, row, None)
    write_shard(pa.Table.from_pylist(kept, schema=SCHEMA), outputs / "documents" / f"{file.name}.parquet")
    write_shard(pa.Table.from_pylist(removed, schema=REMOVED_SCHEMA), outputs / "removed" / f"{file.name}.parquet")
    sizes: dict[str, SourceCounts] = {"in": before, "out": after}
    scores = [score for row in (*kept, *removed) if (score := row.get(LANGUAGE)) is not None]
    histograms = {LANGUAGE: histogram.count_bins(LANGUAGE, scores)} if scores else {}
    return {**sizes, **counters, "lines": lines.counts, "samples": lines.samples, "histograms": histograms}


def _note(row: Row, language: Language = (None, None)) -> None:
    row["lang"] = language[0] or row["lang"]
    row[LANGUAGE] = language[1]


def _count(sizes: dict[str, Counter[str]], row: Row, raw_bytes: int | None) -> None:
    text = row["text"] or ""
    size = len(text.encode("utf-8", "surrogatepass")) if raw_bytes is None else raw_bytes
    sizes.setdefault(row["source"] or "", Counter()).update(documents=1, characters=len(text), bytes=size)


def _rows(
    file: InputFile, params: CleanParams, encodings: Counter[str], removed_for: RemovalReason
) -> Iterator[tuple[Row, bool, RemovalReason]]:
    """(row, whether to decode entities, problem) for each page or row of a file."""
    if file.source is not None:
        about = {"robots": file.robots} if file.robots else {}
        yield from read_page_rows(file.path, file.source, file.licence, about, params, encodings, removed_for)
        return
    for row in read_shard(file.path).to_pylist():
        yield row, True, removed_for or unreadable_reason(row["text"] or "")
