"""The model card (Mitchell et al. 2019, arXiv:1810.03993), in Markdown as the hub reads it and as a page: recorded facts alone."""

import html
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from flows.release.bundle import Candidate
from flows.release.gate import Check
from flows.release.rules import Rules
from flows.summary import timings
from tasks.documents.shards import read_shard, shard_paths
from tasks.held_out.split import TRAIN
from tasks.model.start_from import ModelSource, read_model_source
from tasks.report.findings import findings
from tasks.report.headline import headline
from tasks.report.stage import read_curve_columns
from tasks.report.units import number, size

if TYPE_CHECKING:
    from flows.release.comparison import Comparison

TEMPLATE = Path(__file__).parent / "card.md.j2"
STYLE = (
    "body{max-width:50rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff}"
    "table{margin:1rem 0;border-collapse:collapse;display:block;overflow-x:auto}"
    "td,th{border:1px solid #bbb;padding:.25rem .6rem;text-align:left}"
    "code{overflow-wrap:anywhere}@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}a{color:#8ab4f8}}"
)
CURVES = {"pretrain": "data/pretrain/curves.csv", "finetune": "data/finetune/curves.csv"}


def render_card(
    root: Path,
    metrics: Mapping[str, Any],
    rules: Rules,
    candidate: Candidate,
    checks: Sequence[Check],
    comparison: "Comparison | None",
    facts: Mapping[str, Any],
) -> str:
    """The card as Markdown, with the hub's header; text of users is written so that it stays text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
    environment.filters |= {"number": number, "size": size, "cell": _cell}
    config = json.loads((candidate.model / "config.json").read_text(encoding="utf-8"))
    curves = {stage: read_curve_columns(root / path) for stage, path in CURVES.items() if (root / path).exists()}
    source = read_model_source(root / "data/tokenizer")
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        facts=facts,
        rules=rules,
        config=config,
        context=config.get("max_position_embeddings"),
        started_from=_public_name(source) if source else None,
        candidate=candidate,
        metrics=metrics,
        headline=headline(metrics),
        training=_training_text(root),
        quantized=metrics["quantize"],
        findings=findings(metrics, curves),
        checks=checks,
        comparison=comparison,
        spent=_spent(timings(root), rules),
    )


def card_page(card: str) -> str:
    """The card as one HTML page, readable offline."""
    import markdown

    body = card.split("---\n", 2)[2] if card.startswith("---\n") else card
    inner = markdown.markdown(body, extensions=["tables"])
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Model card</title><style>{STYLE}</style><body>{inner}</body></html>\n"
    )


def _training_text(root: Path) -> list[dict[str, Any]]:
    """By source and licence: how many training documents, and their UTF-8 bytes."""
    documents: Counter[tuple[str, str]] = Counter()
    size_of: Counter[tuple[str, str]] = Counter()
    for path in shard_paths(root / "data/decontaminate/documents"):
        table = read_shard(path, ["source", "licence", "text", "split"])
        table = table.filter(pc.equal(table["split"], TRAIN))
        sizes = pc.binary_length(pc.fill_null(table["text"], "").cast("binary")).to_pylist()
        for source, licence, length in zip(
            table["source"].to_pylist(), table["licence"].to_pylist(), sizes, strict=True
        ):
            documents[source or "", licence or "not known"] += 1
            size_of[source or "", licence or "not known"] += length
    return [
        {"source": source, "licence": licence, "documents": count, "bytes": size_of[source, licence]}
        for (source, licence), count in sorted(documents.items())
    ]


def _public_name(source: ModelSource) -> str:
    """A model of the hub or of a package by its name, a file by the last part of its path: the rest is this machine's."""
    known = source.revision is not None or source.start_from.startswith("package:")
    return source.start_from if known else Path(source.start_from).name


def _spent(taken: Mapping[str, Mapping[str, float]], rules: Rules) -> dict[str, Any]:
    """Hours of the stages that ran on this machine, and what they come to where it is told."""
    hours = sum(stage.get("seconds", 0.0) for stage in taken.values()) / 3600
    return {
        "hours": hours,
        "stages": ", ".join(stage for stage, of in taken.items() if "seconds" in of),
        "kilowatt_hours": None if rules.watts is None else hours * rules.watts / 1000,
        "cost": None if rules.price_per_hour is None else hours * rules.price_per_hour,
    }


def _cell(text: Any) -> str:
    """Text in a cell of a table: a line, without what Markdown or HTML would read."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    for mark in "\\`*_[]|#":
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def today() -> str:
    """The date, for the card and the version."""
    return time.strftime("%Y-%m-%d %H:%M")
