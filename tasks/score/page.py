"""The report page: numbers of all stages in, one self-contained HTML document out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tasks.score import curation
from tasks.score.charts import bar_chart, line_chart

TEMPLATE = Path(__file__).parent / "report.html.j2"
Curves = Mapping[str, Sequence[float | None]]


def render(
    title: str,
    metrics: Mapping[str, Any],
    curves: Mapping[str, Curves],
    samples: Sequence[Mapping[str, Any]],
    largest: Sequence[Mapping[str, Any]],
    splits: Sequence[Mapping[str, Any]],
    most_reasons: int,
    timings: Mapping[str, Mapping[str, float]],
    provenance: Mapping[str, str],
) -> str:
    """The page. `largest` tells of the documents that dedup's largest clusters kept, `splits` of words cut into many tokens.

    `timings` (seconds, tokens per second, by stage) and `provenance` differ from run to run; without them it is repeatable.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "size": lambda count: "–" if count is None else size(count)}
    evaluated = metrics["evaluate"]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        tiles=_tiles(metrics),
        funnel=curation.funnel(metrics),
        funnel_chart=Markup(bar_chart([(s, n, _number(n)) for s, n in documents_by_stage(metrics)])),  # noqa: S704
        reasons=[(stage, _counted(metrics[stage]["removed"], most_reasons)) for stage in _with_reasons(metrics)],
        dropped=_counted(metrics["clean"].get("lines", {}), most_reasons),
        duplicates=metrics["dedup"].get("clusters"),
        clusters=curation.clusters(metrics["dedup"], largest),
        similarities=curation.similarities(metrics["dedup"]),
        overlap=curation.overlap(metrics["dedup"]),
        scores=curation.scores(metrics["clean"]),
        precision=curation.precision(metrics["clean"]),
        mixture=curation.mixture(metrics["pack"]),
        packed=[{"split": s, **metrics["pack"][s]} for s in ("train", "validation")],
        tokenizer=_tokenizer(metrics["tokenizer"]),
        splits=splits,
        comparison=(comparison := metrics["tokenizer"].get("comparison")),
        compared=sorted((int(n), found) for n, found in comparison["candidates"].items()) if comparison else [],
        training=[(name, Markup(chart)) for name, chart in _training(curves)],  # noqa: S704
        results_chart=Markup(_results_chart(evaluated)),  # noqa: S704
        results=_results(evaluated),
        tuned=_is_tuned(evaluated),
        questions=evaluated.get("questions"),
        not_measured=evaluated.get("not_measured") or {},
        formats=_formats(metrics["quantize"], timings.get("quantize", {})),
        scored_text=metrics["quantize"].get("scored_text", "held-out conversations"),
        formats_chart=Markup(_formats_chart(metrics["quantize"])),  # noqa: S704
        samples=samples,
        timings=timings,
        timings_chart=Markup(  # noqa: S704
            bar_chart([(s, t["seconds"], f"{t['seconds']:.1f} s") for s, t in timings.items() if "seconds" in t])
        ),
        provenance=list(provenance.items()),
        all_metrics=[(stage, _flat(content)) for stage, content in metrics.items()],
    )


def documents_by_stage(metrics: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Documents that left each stage on the way into training, in order."""
    scraped = metrics["scrape"]
    found = [("scrape", scraped["documents"] + scraped["pages"])]
    return found + [(stage, metrics[stage]["documents_out"]) for stage in curation.FILTERING]


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    raise AssertionError


def _tiles(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    evaluated, tuned = metrics["evaluate"], metrics["quantize"]["formats"]
    smallest = min(tuned.values(), key=lambda form: form["bytes"])
    return [
        (_number(metrics["decontaminate"]["documents_out"]), "documents trained and measured on"),
        (_number(metrics["pack"]["train"]["tokens"]), "training tokens"),
        (_number(metrics["pretrain"]["parameters"]), "parameters"),
        (_number(evaluated["validation_bits_per_byte"]), "bits per byte, held out"),
        (_number(evaluated["xz_bits_per_byte"]), "bits per byte, xz -9e"),
        (size(smallest["bytes"]), "smallest model"),
    ]


def _with_reasons(metrics: Mapping[str, Any]) -> list[str]:
    return [stage for stage in (*curation.FILTERING, "instruct") if metrics[stage].get("removed")]


def _counted(counts: Mapping[str, int], most: int) -> Markup:
    """A bar for each of the `most` frequent reasons, and one for all others."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if rest := ordered[most:]:
        ordered = [*ordered[:most], (f"{len(rest)} more", sum(count for _, count in rest))]
    bars = [(reason, count, _number(count)) for reason, count in ordered]
    return Markup(bar_chart(bars) if bars else "")  # noqa: S704


def _tokenizer(metrics: Mapping[str, Any]) -> list[tuple[str, Any, Any, Any]]:
    measured = [("validation", metrics["validation"]), ("train", metrics["train"]), *metrics["sources"].items()]
    return [(n, m["bytes_per_token"], m["tokens_per_word"], m["tokens"]) for n, m in measured]


def _is_tuned(measured: Mapping[str, Any]) -> bool:
    """Whether what evaluate or quantize measured is a tuned model; else it is the base model."""
    return bool(measured.get("model", "tuned") == "tuned")


def _training(curves: Mapping[str, Curves]) -> list[tuple[str, str]]:
    charts = []
    for stage in ("pretrain", "finetune"):
        curve = curves[stage]
        if stage == "finetune" and not curve.get("step"):  # nothing was tuned
            continue
        charts.append((f"{stage}: loss", line_chart([("loss", *_points(curve, "loss"))], "step", "nats per token")))
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


def _groups(evaluated: Mapping[str, Any]) -> list[tuple[str, Any, Any, Any]]:
    """(text, pretrained, tuned, xz) in bits per byte, for all held-out text, conversations and each source."""
    if evaluated.get("validation_bits_per_byte") is None:
        return []
    base, xz = evaluated["pretrain"], evaluated["xz"]
    tuned = evaluated["finetune"] if _is_tuned(evaluated) else base  # whose column is not shown
    rows = [
        (name, base[name]["bits_per_byte"], tuned[name]["bits_per_byte"], xz[name])
        for name in base
        if name != "by_source"
    ]
    return rows + [
        (
            name,
            base["by_source"][name]["bits_per_byte"],
            tuned["by_source"][name]["bits_per_byte"],
            xz["by_source"][name],
        )
        for name in base["by_source"]
    ]


def _results(evaluated: Mapping[str, Any]) -> list[tuple[str, Any, Any, Any]]:
    return _groups(evaluated)


def _results_chart(evaluated: Mapping[str, Any]) -> str:
    bits, xz = evaluated["validation_bits_per_byte"], evaluated["xz_bits_per_byte"]
    if bits is None:
        return '<p class="nothing">not measured</p>'
    return bar_chart([("pretrained model", bits, f"{bits:.3f} bits/byte"), ("xz -9e", xz, f"{xz:.3f} bits/byte")])


def _formats(metrics: Mapping[str, Any], timings: Mapping[str, float]) -> list[dict[str, Any]]:
    reference = metrics["reference"]
    rows = [
        {
            "name": f"{'tuned' if _is_tuned(metrics) else 'base'} model, fp32",
            "size": size(reference["bytes"]),
            "bits": reference["bits_per_byte"],
            "distance": "–",
            "speed": "–",
        }
    ]
    for name, form in metrics["formats"].items():
        speed = timings.get(f"{name}_tokens_per_second")
        rows.append(
            {
                "name": name,
                "size": size(form["bytes"]),
                "bits": form["bits_per_byte"],
                "distance": _number(form["max_distance"]),
                "speed": f"{speed:,.0f}" if speed else "–",
            }
        )
    return rows


def _formats_chart(metrics: Mapping[str, Any]) -> str:
    return bar_chart(
        [
            (name, form["bytes"], f"{size(form['bytes'])}, {form['bits_per_byte']:.4f} bits/byte")
            for name, form in metrics["formats"].items()
        ]
    )


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in content.items():
        rows += _flat(value, f"{prefix}{name} / ") if isinstance(value, dict) else [(prefix + name, _number(value))]
    return rows
