"""What the pipeline has come to: printed at the end of a run."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows import run_plan
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.graph import load_graph
from tasks.core.paths import STATE
from tasks.core.publish import made_at
from tasks.core.restore import recover
from tasks.model.served_format import served_format
from tasks.report.findings import preferences, tuning
from tasks.report.results import ASKED_ABOUT, is_tuned, restored_results, text_results
from tasks.report.units import size

CURATING = ("scrape", "clean", "dedup", "decontaminate", "pack")
"""Stages through which documents go on their way into training."""
SAMPLES = "data/evaluate/samples.jsonl"
LEADS = ("  you> ", "  textmill> ")
CONTINUED = ("  text> ", "  textmill> ")


def read_metrics(root: Path) -> dict[str, Any]:
    """What each stage measured, by stage."""
    paths = sorted((root / "metrics").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def timings(root: Path) -> dict[str, dict[str, float]]:
    """Seconds and speeds of the stages that ran on this machine, in the order of the graph."""
    return recorded(root, "timings")


def recorded(root: Path, kind: str) -> dict[str, Any]:
    """What stages left of `kind` (timings, provenance) in this workspace's state, by stage in the order of the graph."""
    found = {stage: root / STATE / kind / f"{stage}.json" for stage in load_graph(root)}
    return {stage: json.loads(path.read_text(encoding="utf-8")) for stage, path in found.items() if path.exists()}


def show_summary(root: Path, outdated: set[str] | None = None) -> None:
    """Print what the stages came to, which of it is of an earlier run, and where to look next.

    `outdated` are the stages, if known, that parameters, code or inputs have changed of since they ran.
    """
    stages, console = list(load_graph(root)), Console(highlight=False)
    try:
        outdated = run_plan.outdated(root, stages) if outdated is None else outdated
    except UserError as error:  # a summary that cannot be given takes nothing from the run
        console.print(str(error))
        return
    metrics = read_metrics(root)
    try:
        _show_results(root, metrics, console)
    except (KeyError, TypeError):
        if not outdated:
            raise
        console.print("The rest was measured by another version of the code and cannot be shown.\n")
    if earlier := of_earlier_runs(root, [stage for stage in stages if stage in outdated and stage in metrics]):
        console.print(f"[bold]Of an earlier run[/], before parameters, code or inputs changed  {earlier}: make run")
    if missing := [stage for stage in stages if stage not in metrics]:
        console.print(f"[bold]Not made yet[/]  {', '.join(missing)}: make run")
    if not earlier and not missing:
        served = "quantize" in metrics and served_format(metrics["quantize"]["formats"])
        talks = " · chat: make chat · server: make serve" if served else ""
        console.print(f"[bold]Next[/]  report: data/report/index.html · runs: make ui{talks}")


def _show_results(root: Path, metrics: dict[str, Any], console: Console) -> None:
    if curated := [stage for stage in CURATING if stage in metrics]:
        console.print(_curation(curated, metrics))
        console.print("[dim]text of scrape: as fetched; ~ estimated by the tokenizer's bytes per token[/]\n")
    if "evaluate" in metrics:
        _show_bits(metrics, console)
        _show_restored(metrics["evaluate"], console)
    if "quantize" in metrics:
        _show_models(metrics["quantize"], timings(root).get("quantize", {}), console)
    if "evaluate" in metrics and (root / SAMPLES).exists():
        _show_samples(root / SAMPLES, console, *(LEADS if is_tuned(metrics["evaluate"]) else CONTINUED))


def of_earlier_runs(root: Path, stages: list[str]) -> str:
    """The stages by the minute in which they were made, where that is known."""
    by_time: dict[str, list[str]] = {}
    for stage in stages:
        at = made_at(root, stage)
        when = time.strftime(" (%Y-%m-%d %H:%M)", time.localtime(at)) if at is not None else ""
        by_time.setdefault(when, []).append(stage)
    return "; ".join(", ".join(names) + when for when, names in by_time.items())


def _curation(stages: list[str], metrics: dict[str, Any]) -> Table:
    """Documents, their text and its tokens that left each stage on the way into training."""
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


def _show_bits(metrics: dict[str, Any], console: Console) -> None:
    """Each held-out text with each model beside xz, and what tuning changed."""
    evaluated = metrics["evaluate"]
    rows, tuned = text_results(evaluated), is_tuned(evaluated)
    if not rows:
        return
    table = Table("held-out text, bits per byte (less is better)", "base", box=None, pad_edge=False)
    for name in (["tuned"] if tuned else []) + ["xz -9e"]:
        table.add_column(name)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        values = [row.base, *([row.tuned] if tuned else []), row.xz]
        table.add_row(row.text, *("–" if value is None else f"{value:.3f}" for value in values))
    console.print(table)
    for finding in filter(None, [tuning(evaluated), preferences(metrics.get("prefer", {}), evaluated)]):
        console.print(f"[dim]{finding.text}[/]")
    console.print()


def _show_restored(evaluated: dict[str, Any], console: Console) -> None:
    """What an encoder or encoder-decoder said of corrupted text, beside what frequencies alone come to."""
    if not (rows := restored_results(evaluated)):
        return
    of = ASKED_ABOUT[evaluated["objective"]]
    names = ("right", "most frequent", "bits/byte", "frequencies")
    table = Table(f"held-out text: {of}", *names, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        values = [row.accuracy, row.majority, row.bits, row.frequencies]
        table.add_row(row.text, *("–" if value is None else f"{value:.3f}" for value in values))
    console.print(table)
    console.print()


def _show_models(quantized: dict[str, Any], speeds: dict[str, float], console: Console) -> None:
    """The formats, the one that `make chat` takes first named: size, what it costs on the same text, speed."""
    kind = "tuned model" if is_tuned(quantized) else "base model"
    reference, served = quantized["reference"]["bits_per_byte"], served_format(quantized["formats"])
    if served:
        lead = "The model you chat with" if is_tuned(quantized) else "The model that continues your text"
        console.print(f"[bold]{lead}[/]  the {kind} as {served}: data/quantize/{served}/model.gguf")
    table = Table(f"format of the {kind}", "size", "bits per byte that it costs", "tokens/s", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, form in quantized["formats"].items():
        speed = speeds.get(f"{name}_tokens_per_second")
        cost = f"{form['bits_per_byte'] - reference:+.5f}"
        table.add_row(name, size(form["bytes"]), cost, f"{speed:,.0f}" if speed else "–")
    console.print(table)
    console.print()


def _show_samples(path: Path, console: Console, asks: str = LEADS[0], replies_with: str = LEADS[1]) -> None:
    """The first sampled reply to each of the first prompts, each led by who says it."""
    from tasks.report.stage import read_json_lines

    replies: dict[str, str] = {}
    for row in read_json_lines(path):
        if row["mode"] in ("sampled", "filled in"):
            replies.setdefault(row["prompt"], row["reply"])
    for prompt, reply in list(replies.items())[:3]:
        console.print(Text.assemble((asks, "dim"), prompt))
        console.print(Text.assemble((replies_with, "dim"), reply.replace("\n", "\n" + " " * len(replies_with))))
    if replies:
        console.print()


if __name__ == "__main__":
    try:
        recover(Path.cwd())
        show_summary(Path.cwd())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
