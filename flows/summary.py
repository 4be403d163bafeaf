"""What the pipeline has come to: printed at the end of a run, and the report with this machine's timings."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.graph import load_graph
from tasks.core.paths import STATE, state_folder


def _metrics(root: Path) -> dict[str, Any]:
    paths = sorted((root / "metrics").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def timings(root: Path) -> dict[str, dict[str, float]]:
    """Seconds and speeds of the stages that ran on this machine, in the order of the graph."""
    return _recorded(root, "timings")


def _recorded(root: Path, kind: str) -> dict[str, Any]:
    found = {stage: root / STATE / kind / f"{stage}.json" for stage in load_graph(root)}
    return {stage: json.loads(path.read_text(encoding="utf-8")) for stage, path in found.items() if path.exists()}


def show(root: Path) -> None:
    """Print documents and tokens by stage, bits per byte, models, a few replies, and where to look next."""
    metrics, console = _metrics(root), Console(highlight=False)
    if not {"scrape", "clean", "dedup", "decontaminate", "pack", "quantize", "evaluate"} <= set(metrics):
        console.print(f"Metrics of {', '.join(metrics) or 'no stage'} are in metrics/.")
        return
    from tasks.report import read_lines
    from tasks.score.page import documents_by_stage, size

    funnel = " → ".join(f"{stage} {count:,}" for stage, count in documents_by_stage(metrics))
    packed, evaluated = metrics["pack"], metrics["evaluate"]
    console.print(f"[bold]Documents[/]  {funnel}")
    console.print(
        f"[bold]Tokens[/]     {packed['train']['tokens']:,} to train on, {packed['validation']['tokens']:,} held out"
    )
    bits, xz = evaluated["validation_bits_per_byte"], evaluated["xz_bits_per_byte"]
    if bits is not None:
        text = evaluated["validation_text"]
        console.print(f"[bold]Bits per byte[/] on held-out text ({text}): {bits:.3f}; xz -9e: {xz:.3f}\n")
    speeds = timings(root).get("quantize", {})
    table = Table("model", "size", "bits per byte", "tokens/s", box=None, pad_edge=False)
    for name, form in metrics["quantize"]["formats"].items():
        speed = speeds.get(f"{name}_tokens_per_second")
        table.add_row(name, size(form["bytes"]), f"{form['bits_per_byte']:.4f}", f"{speed:,.0f}" if speed else "–")
    console.print(table)
    samples = root / "data/evaluate/samples.jsonl"
    if samples.exists():
        console.print()
        for row in [row for row in read_lines(samples) if row["mode"] == "sampled"][::2][:3]:
            console.print(Text.assemble(("  you> ", "dim"), row["prompt"]))
            console.print(Text.assemble(("  textmill> ", "dim"), row["reply"].replace("\n", "\n            ")))
    console.print(
        "\n[bold]Next[/]  report: data/report/index.html (make report adds timings) · runs: make ui · chat: make chat"
        " · server: make serve"
    )


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
