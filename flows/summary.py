"""What the pipeline has come to: printed at the end of a run, and the report with this machine's timings."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows import plan
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.graph import load_graph
from tasks.core.paths import STATE, state_folder

CURATING = ("scrape", "clean", "dedup", "decontaminate", "pack")
"""Stages through which documents go on their way into training."""
SAMPLES = "data/evaluate/samples.jsonl"


def _metrics(root: Path) -> dict[str, Any]:
    paths = sorted((root / "metrics").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def timings(root: Path) -> dict[str, dict[str, float]]:
    """Seconds and speeds of the stages that ran on this machine, in the order of the graph."""
    return _recorded(root, "timings")


def _recorded(root: Path, kind: str) -> dict[str, Any]:
    found = {stage: root / STATE / kind / f"{stage}.json" for stage in load_graph(root)}
    return {stage: json.loads(path.read_text(encoding="utf-8")) for stage, path in found.items() if path.exists()}


def show(root: Path, outdated: set[str] | None = None) -> None:
    """Print what the stages that are up to date came to, and where to look next.

    `outdated` are the others, if known: what metrics/ holds of them was made by another version of the pipeline.
    """
    stages, console = list(load_graph(root)), Console(highlight=False)
    try:
        outdated = plan.outdated(root, stages) if outdated is None else outdated
    except UserError as error:  # a summary that cannot be given takes nothing from the run
        console.print(str(error))
        return
    metrics = {stage: found for stage, found in _metrics(root).items() if stage not in outdated}
    if curated := [stage for stage in CURATING if stage in metrics]:
        console.print(_curation(curated, metrics))
        console.print("[dim]text of scrape: as fetched; ~ estimated by the tokenizer's bytes per token[/]\n")
    if "evaluate" in metrics:
        _show_bits(metrics["evaluate"], console)
    if "quantize" in metrics:
        console.print(_models(metrics["quantize"], timings(root).get("quantize", {})))
        console.print()
    if "evaluate" in metrics and (root / SAMPLES).exists():
        _show_samples(root / SAMPLES, console)
    if missing := [stage for stage in stages if stage not in metrics]:
        console.print(f"[bold]Not up to date[/]  {', '.join(missing)}: make run")
    elif "report" in metrics:
        console.print(
            "[bold]Next[/]  report: data/report/index.html (make report adds timings) · runs: make ui · chat: make chat"
            " · server: make serve"
        )


def _curation(stages: list[str], metrics: dict[str, Any]) -> Table:
    """Documents, their text and its tokens that left each stage on the way into training."""
    from tasks.score.page import size

    table = Table("stage", "documents", "text", "tokens", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    fetched = metrics.get("scrape")
    if fetched:
        documents = fetched["documents"] + fetched["pages"]
        table.add_row("scrape", f"{documents:,}", size(fetched["bytes"]), "")
    for stage in stages:
        if stage in ("scrape", "pack"):
            continue
        sources = metrics[stage]["sources"]
        text = sum(source["bytes_out"] for source in sources.values())
        tokens = estimated_tokens(sources, metrics["tokenizer"]) if "tokenizer" in metrics else None
        table.add_row(stage, f"{metrics[stage]['documents_out']:,}", size(text), f"~ {tokens:,}" if tokens else "")
    if packed := metrics.get("pack"):
        for split, name in (("train", "to train on"), ("validation", "held out")):
            table.add_row(name, f"{packed[split]['documents']:,}", "", f"{packed[split]['tokens']:,}")
    return table


def estimated_tokens(sources: dict[str, Any], tokenizer: dict[str, Any]) -> int:
    """Tokens of the text that left a stage, from its bytes: by the bytes per token of each source where measured."""
    measured, overall = tokenizer.get("sources", {}), tokenizer["train"]["bytes_per_token"]
    ratios: dict[str, float] = {name: measured.get(name, {}).get("bytes_per_token") or overall for name in sources}
    return round(sum(float(source["bytes_out"]) / ratios[name] for name, source in sources.items()))


def _show_bits(evaluated: dict[str, Any], console: Console) -> None:
    bits, xz = evaluated["validation_bits_per_byte"], evaluated["xz_bits_per_byte"]
    if bits is not None:
        text = evaluated["validation_text"]
        console.print(f"[bold]Bits per byte[/] on held-out text ({text}): {bits:.3f}; xz -9e: {xz:.3f}\n")


def _models(quantized: dict[str, Any], speeds: dict[str, float]) -> Table:
    from tasks.score.page import size

    table = Table("model", "size", "bits per byte", "tokens/s", box=None, pad_edge=False)
    for name, form in quantized["formats"].items():
        speed = speeds.get(f"{name}_tokens_per_second")
        table.add_row(name, size(form["bytes"]), f"{form['bits_per_byte']:.4f}", f"{speed:,.0f}" if speed else "–")
    return table


def _show_samples(path: Path, console: Console) -> None:
    """The first sampled reply to each of the first prompts."""
    from tasks.report import read_lines

    replies: dict[str, str] = {}
    for row in read_lines(path):
        if row["mode"] == "sampled":
            replies.setdefault(row["prompt"], row["reply"])
    for prompt, reply in list(replies.items())[:3]:
        console.print(Text.assemble(("  you> ", "dim"), prompt))
        console.print(Text.assemble(("  textmill> ", "dim"), reply.replace("\n", "\n            ")))
    if replies:
        console.print()


def write_report(root: Path) -> Path:
    """Write the report with this machine's timings and the results' provenance to the state folder; returns its path.

    Raises:
        UserError: the pipeline has not run yet.
    """
    from tasks.core.params import load_params
    from tasks.core.provenance import merged
    from tasks.report import SPLITS, ReportParams, build, read_curves, read_json, read_lines

    needed = ("report/index.html", "evaluate/samples.jsonl", "dedup/largest.jsonl")
    if not all((root / "data" / name).exists() for name in needed):
        raise UserError("there is nothing to report yet. Make it first: make run")
    params = load_params(root, list(load_graph(root)))["report"]
    assert isinstance(params, ReportParams)  # noqa: S101
    curves = {stage: read_curves(root / f"data/{stage}/curves.csv") for stage in ("pretrain", "finetune")}
    metrics = {stage: content for stage, content in _metrics(root).items() if stage != "report"}
    samples, largest = (read_lines(root / "data" / name) for name in needed[1:])
    splits = read_json(root / "data/tokenizer" / SPLITS)["longest_splits"]
    facts = merged(_recorded(root, "provenance"))
    page = build(params, metrics, curves, samples, largest, splits, timings(root), facts)
    target = state_folder(root) / "report.html"
    target.write_text(page, encoding="utf-8")
    return target


if __name__ == "__main__":
    try:
        print(f"The report: file://{write_report(Path.cwd())}" if "--report" in sys.argv else "")
        show(Path.cwd())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
