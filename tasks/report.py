"""Report: what the pipeline did, on one self-contained page that is readable offline."""

import csv
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks.core.errors import UserError
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs
from tasks.core.provenance import package_versions, processor
from tasks.core.stage import stage_main


class ReportParams(StageParams):
    """The page: data/report/index.html. Timings differ from run to run, so `make report` and MLflow's copy add them."""

    title: str = Field(default="Textmill", min_length=1, description="Heading of the page.")
    samples: int = Field(default=12, ge=0, description="Replies of the tuned model to show.")
    reasons: int = Field(default=12, ge=1, description="Most frequent reasons of removal to show, per stage.")


def run(params: ReportParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Write index.html from the metrics of all stages, the largest clusters, the training curves and the samples."""
    metrics = {name.removesuffix(".json"): read_json(path) for name, path in inputs.items() if name.endswith(".json")}
    curves = {name.partition("/")[0]: read_curves(path) for name, path in inputs.items() if name.endswith(".csv")}
    samples, largest = read_lines(inputs["evaluate"] / "samples.jsonl"), read_lines(inputs["largest.jsonl"])
    page = build(params, metrics, curves, samples, largest, timings={})
    (outputs / "index.html").write_text(page, encoding="utf-8")
    return {"stages": len(metrics), "bytes": len(page.encode())}


def build(
    params: ReportParams,
    metrics: Any,
    curves: Any,
    samples: list[dict[str, Any]],
    largest: list[dict[str, Any]],
    timings: Any,
) -> str:
    """The page of these results; `largest` tells what dedup's largest clusters kept.

    With `timings` (by stage) it tells this machine's speeds too.
    """
    from tasks.score.page import render

    lock = Path("requirements.lock")
    facts = {"requirements.lock (SHA-256)": hashlib.sha256(lock.read_bytes()).hexdigest()} if lock.exists() else {}
    facts |= {"processor": processor(), "python": platform.python_version()} | package_versions()
    return render(params.title, metrics, curves, samples[: params.samples], largest, params.reasons, timings, facts)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: no valid JSON ({error}). Make it again: dvc repro --force {path.stem}") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def read_curves(path: Path) -> dict[str, list[float | None]]:
    """Read a CSV of numbers as columns; an empty cell is None."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) if row[name] else None for row in rows] for name in (rows[0] if rows else {})}


if __name__ == "__main__":
    stage_main(run)
