"""The report page: numbers of all stages in, one self-contained HTML document out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tasks.model.served_format import served_format
from tasks.report import curation
from tasks.report.charts import bar_chart, line_chart
from tasks.report.findings import findings
from tasks.report.formats import format_rows, formats_chart
from tasks.report.planned import plan_section
from tasks.report.results import (
    ASKED_ABOUT,
    evaluation_set_results,
    is_restorer,
    is_tuned,
    restored_results,
    text_results,
)
from tasks.report.units import number, size

TEMPLATE = Path(__file__).parent / "report.html.j2"
Curves = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Results:
    """What the stages came to.

    Attributes:
        metrics: stage → what it measured.
        curves: stage → column → values, a value a step.
        samples: rows of prompt, mode and reply.
        largest: what dedup's largest clusters kept.
        splits: words that the tokenizer cuts into the most tokens (`word`, `tokens`).
        examples: stage → reason → removed documents.
        plan: what the stage plan wrote.
    """

    metrics: Mapping[str, Any]
    curves: Mapping[str, Curves]
    samples: Sequence[Mapping[str, Any]]
    largest: Sequence[Mapping[str, Any]] = ()
    splits: Sequence[Mapping[str, Any]] = ()
    examples: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)


def code_to_html(text: str) -> Any:
    """Text for HTML, what stands between backquotes as code."""
    from markupsafe import Markup, escape

    parts = str(escape(text)).split("`")
    return Markup("".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts)))  # noqa: S704  escaped


def render(title: str, results: Results, most_reasons: int) -> str:
    """The page; the same bytes from the same results."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "number": number,
        "size": lambda count: "–" if count is None else size(count),
        "code": code_to_html,
        "error": lambda value: "" if value is None else f" ± {number(value)}",
    }
    metrics = results.metrics
    evaluated, quantized = metrics["evaluate"], metrics["quantize"]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        findings=findings(metrics, results.curves),
        tiles=_tiles(metrics),
        funnel=curation.funnel(metrics),
        funnel_chart=Markup(bar_chart([(s, n, number(n)) for s, n in documents_by_stage(metrics)])),  # noqa: S704
        reasons=[
            (stage, _reasons(metrics[stage]["removed"], results.examples.get(stage, {}), most_reasons))
            for stage in _with_reasons(metrics)
        ],
        dropped=_counted(metrics["clean"].get("lines", {}), most_reasons),
        duplicates=metrics["dedup"].get("clusters"),
        clusters=curation.clusters(metrics["dedup"], results.largest),
        similarities=curation.similarities(metrics["dedup"]),
        overlap=curation.overlap(metrics["dedup"]),
        scores=curation.scores(metrics["clean"]),
        precision=curation.precision(metrics["clean"]),
        mixture=curation.mixture(metrics["pack"]),
        packed=[{"split": s, **metrics["pack"][s]} for s in ("train", "validation")],
        tokenizer=_tokenizer(metrics["tokenizer"]),
        splits=results.splits,
        comparison=(comparison := metrics["tokenizer"].get("comparison")),
        compared=sorted((int(n), found) for n, found in comparison["candidates"].items()) if comparison else [],
        plan=plan_section(results.plan, metrics["pretrain"], decoder=not is_restorer(evaluated)),
        training=[(name, Markup(chart)) for name, chart in _training(results.curves)],  # noqa: S704
        tuned=is_tuned(evaluated),
        results_chart=Markup(_results_chart(evaluated)),  # noqa: S704
        results=text_results(evaluated),
        asked_about=ASKED_ABOUT.get(evaluated.get("objective", "causal")),
        restored=restored_results(evaluated),
        probes=[(name, found) for name, found in (evaluated.get("probe") or {}).items() if found],
        passed_over=quantized.get("passed_over") or {},
        questions=evaluated.get("questions"),
        own_set=evaluation_set_results(evaluated),
        not_measured=evaluated.get("not_measured") or {},
        formats=format_rows(quantized),
        scored_text=quantized.get("scored_text", "held-out conversations"),
        formats_chart=Markup(formats_chart(quantized)),  # noqa: S704
        samples=results.samples,
        all_metrics=[(stage, _flat(content)) for stage, content in metrics.items()],
    )


def documents_by_stage(metrics: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Documents that left each stage on the way into training, in order."""
    scraped = metrics["scrape"]
    found = [("scrape", scraped["documents"] + scraped["pages"])]
    return found + [(stage, metrics[stage]["documents_out"]) for stage in curation.FILTERING_STAGES]


def _tiles(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The model that one chats with first, then what it is made of."""
    evaluated, quantized = metrics["evaluate"], metrics["quantize"]
    served = served_format(quantized["formats"])
    kind = "tuned model" if is_tuned(evaluated) else "base model"
    tiles = []
    if served:
        tiles.append(
            (
                size(quantized["formats"][served]["bytes"]),
                f"the {kind} that {'you chat with' if is_tuned(evaluated) else 'continues your text'} ({served})",
            )
        )
    if is_restorer(evaluated):
        of = ASKED_ABOUT[evaluated["objective"]]
        tiles += [(f"{row.accuracy:.1%}", f"right: {of}, held-out text") for row in restored_results(evaluated)[:1]]
        tiles += [(number(row.bits), f"bits per byte: {of}, held-out text") for row in restored_results(evaluated)[:1]]
    elif rows := text_results(evaluated):
        row = rows[0]
        tiles.append((number(row.base if row.tuned is None else row.tuned), f"bits per byte of the {kind}: {row.text}"))
    if not is_restorer(evaluated):
        tiles += [
            (number(evaluated["validation_bits_per_byte"]), "bits per byte of the base model: held-out text"),
            (number(evaluated["xz_bits_per_byte"]), "bits per byte of xz -9e: the same text"),
        ]
    return [
        *tiles,
        (number(metrics["pretrain"]["parameters"]), "parameters"),
        (number(metrics["pack"]["train"]["tokens"]), "tokens to train on"),
        (number(metrics["decontaminate"]["documents_out"]), "documents trained and measured on"),
    ]


def _with_reasons(metrics: Mapping[str, Any]) -> list[str]:
    return [
        stage for stage in (*curation.FILTERING_STAGES, "instruct") if any(metrics[stage].get("removed", {}).values())
    ]


def _reasons(
    counts: Mapping[str, int], examples: Mapping[str, Sequence[Mapping[str, Any]]], most: int
) -> list[dict[str, Any]]:
    """The `most` frequent reasons with their share of the most frequent one and their examples; the others summed up."""
    ordered = sorted(((name, count) for name, count in counts.items() if count), key=lambda item: (-item[1], item[0]))
    largest = ordered[0][1] if ordered else 1
    rows: list[dict[str, Any]] = [
        {"name": name, "count": count, "examples": examples.get(name, ())} for name, count in ordered[:most]
    ]
    if rest := ordered[most:]:
        rows.append({"name": f"{len(rest)} more", "count": sum(count for _, count in rest), "examples": ()})
    return [row | {"width": f"{min(100, 100 * row['count'] / largest):.1f}"} for row in rows]


def _counted(counts: Mapping[str, int], most: int) -> Markup:
    """A bar for each of the `most` frequent reasons, and one for all others."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if rest := ordered[most:]:
        ordered = [*ordered[:most], (f"{len(rest)} more", sum(count for _, count in rest))]
    bars = [(reason, count, number(count)) for reason, count in ordered]
    return Markup(bar_chart(bars) if bars else "")  # noqa: S704


def _tokenizer(metrics: Mapping[str, Any]) -> list[tuple[str, Any, Any, Any]]:
    measured = [("validation", metrics["validation"]), ("train", metrics["train"]), *metrics["sources"].items()]
    return [(n, m["bytes_per_token"], m["tokens_per_word"], m["tokens"]) for n, m in measured]


def _training(curves: Mapping[str, Curves]) -> list[tuple[str, str]]:
    charts = []
    for stage in ("pretrain", "finetune"):
        curve = curves[stage]
        if stage == "finetune" and not curve.get("step"):  # nothing was tuned
            continue
        charts.append((f"{stage}: loss", line_chart([("loss", *_points(curve, "loss"))], "step", "nats per token")))
    for column, unit in (("reward", "of 1"), ("margin", "nats")):
        curve = curves.get("prefer", {})
        if curve.get(column) and any(drawn := _points(curve, column)):
            charts.append((f"prefer: {column}", line_chart([(column, *drawn)], "step", unit)))
    validation = _points(curves["pretrain"], "validation_bits_per_byte")
    charts.insert(1, ("pretrain: validation", line_chart([("bits per byte", *validation)], "step", "bits per byte")))
    return charts


def _points(curve: Curves, name: str) -> tuple[list[float], list[float]]:
    pairs = [
        (s, v)
        for s, v in zip(curve.get("step", []), curve.get(name, []), strict=True)
        if s is not None and v is not None
    ]
    return [step for step, _ in pairs], [value for _, value in pairs]


def _results_chart(evaluated: Mapping[str, Any]) -> str:
    bits, xz = evaluated["validation_bits_per_byte"], evaluated["xz_bits_per_byte"]
    if bits is None:
        return '<p class="nothing">not measured</p>'
    return bar_chart([("pretrained model", bits, f"{bits:.3f} bits/byte"), ("xz -9e", xz, f"{xz:.3f} bits/byte")])


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in content.items():
        rows += _flat(value, f"{prefix}{name} / ") if isinstance(value, dict) else [(prefix + name, number(value))]
    return rows
