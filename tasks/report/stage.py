"""Report: what the pipeline did, on one self-contained page that is readable offline: what it is worth, and what next."""

import csv
import json
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks.core.errors import UserError
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs
from tasks.report.headline import headline

SPLITS_FILE = "report.json"
"""What the tokenizer stage writes about its vocabulary."""
LARGEST_FILE = "largest.json"
"""What the largest clusters of duplicates are about."""
PLAN_FILE = "plan.json"
"""The plan; every other JSON file among the inputs is metrics."""


class ReportParams(StageParams):
    """The page: data/report/index.html. It tells what the results are, whoever made them. Timings, provenance and what
    changed since the last run differ from machine to machine: the page shows them where it finds them.
    """

    title: str = Field(default="Textmill", min_length=1, description="Heading of the page.")
    samples: int = Field(default=12, ge=0, description="Replies of the tuned model to show.")
    reasons: int = Field(default=12, ge=1, description="Most frequent reasons of removal to show, per stage.")


def run(params: ReportParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Write index.html from the metrics of all stages, the plan, the largest clusters, the training curves and the samples.

    Its metrics are the headline figures of the run.
    """
    from tasks.report import removals
    from tasks.report.page import Results, render

    names = [name for name in inputs if name.endswith(".json") and name not in (SPLITS_FILE, LARGEST_FILE, PLAN_FILE)]
    metrics = {name.removesuffix(".json"): read_json(inputs[name]) for name in names}
    curves = {
        name.partition("/")[0]: read_curve_columns(path) for name, path in inputs.items() if name.endswith(".csv")
    }
    samples, largest = read_json_lines(inputs["evaluate"] / "samples.jsonl"), read_json(inputs[LARGEST_FILE])
    removed = {name.partition("/")[0]: path for name, path in inputs.items() if name.endswith("/removed")}
    examples = removals.removal_examples(removed, {"dedup": inputs["documents"]})
    splits = read_json(inputs[SPLITS_FILE])["longest_splits"]
    plan = read_json(inputs[PLAN_FILE])
    results = Results(metrics, curves, samples[: params.samples], largest, splits, examples, plan)
    (outputs / "index.html").write_text(render(params.title, results, params.reasons), encoding="utf-8")
    return headline(metrics)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: no valid JSON ({error}). Make it again: dvc repro --force {path.stem}") from None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def read_curve_columns(path: Path) -> dict[str, list[float | None]]:
    """Read a CSV of numbers as columns; an empty cell is None."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) if row[name] else None for row in rows] for name in (rows[0] if rows else {})}
