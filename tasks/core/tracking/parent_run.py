"""The run of a whole pipeline in MLflow, the one that people open: what dvc.yaml declares to be looked at stands on it.

Of a stage's numbers these are what dvc.yaml lists under its `metrics`; of the curves, what `plots` draws; of its timings and
files, what its `meta: {shown: [...]}` names. Everything else is on the stage's own run, below it.
"""

import csv
import json
from pathlib import Path
from typing import Any

from tasks.core.graph import load_stage
from tasks.core.params import read_yaml
from tasks.core.tracking.store import Store, flat_metrics

Rows = list[dict[str, str]]
"""Rows of a curves file: `step` and numbers, as text."""


def log_on_parent(store: Store, parent: str, stage: str, numbers: dict[str, float]) -> None:
    """Put on the run `parent` what is to be shown of a stage whose outputs are in place; `numbers` are all it measured."""
    node = load_stage(store.root, stage)
    names = {name for path in node.metrics for name in flat_metrics(json.loads((store.root / path).read_text("utf-8")))}
    names.update(wanted := node.meta.get("shown", []))
    store.log_metrics(parent, {name: value for name, value in numbers.items() if name in names})
    for name in wanted:
        path = store.root / "data" / stage / name
        if path.is_file():
            _show_file(store, parent, path, f"{stage}{path.suffix}" if path.stem == "index" else name)


def _show_file(store: Store, parent: str, path: Path, name: str) -> None:
    if path.suffix != ".jsonl":
        store.client.log_text(parent, path.read_text(encoding="utf-8"), name)
        return
    # As a table, which MLflow lays side by side for several runs.
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = {"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]}
    name = f"{path.stem}.json"
    store.client.log_text(parent, json.dumps(table, ensure_ascii=False), name)
    store.client.set_tag(parent, "mlflow.loggedArtifacts", json.dumps([{"path": name, "type": "table"}]))


def plotted_columns(root: Path, stage: str) -> dict[str, str]:
    """Column → name of those of the stage's curves that `plots` in dvc.yaml draws over `step`."""
    found = {}
    for plot in read_yaml(root / "dvc.yaml").get("plots", []):
        for name, settings in plot.items() if isinstance(plot, dict) else ():
            y = settings.get("y") if settings.get("x") == "step" else None
            for path, columns in y.items() if isinstance(y, dict) else ():
                if path == f"data/{stage}/curves.csv":
                    several = isinstance(columns, list) and len(columns) > 1
                    for column in columns if isinstance(columns, list) else [columns]:
                        found[column] = f"{name} {column}" if several else name
    return found


def log_curves_on_parent(store: Store, parent: str, stage: str, rows: Rows) -> None:
    """Put these rows of a stage's curves on the run `parent`, under the names that dvc.yaml's plots have."""
    store.log_points(parent, rows, plotted_columns(store.root, stage))


def read_csv_rows(path: Path) -> Rows:
    """The whole rows of a CSV file that may be being written."""
    with path.open(newline="", encoding="utf-8") as file:
        text = file.read()
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def write_description(store: Store, parent: str) -> None:
    """Write the description of the run `parent`: what was asked, how it ended, the headline figures, where to look."""
    run = store.client.get_run(parent)
    tags, children = run.data.tags, store.search(f"tags.`mlflow.parentRunId` = '{parent}'")
    commit = f"commit `{tags.get('mlflow.source.git.commit', '')[:10]}` on {tags.get('mlflow.source.git.branch', '')}"
    changed = tags.get("mlflow.source.git.dirty") == "True"
    lines = [f"`{tags.get('mlflow.source.name', '')}`", "", commit + (" and changes since" if changed else ""), ""]
    for child in children:
        if error := child.data.tags.get("textmill.error"):
            lines += [f"**{child.info.run_name}**: {error.splitlines()[0]}", ""]
    figures = _figures(store, {name: v for name, v in run.data.metrics.items() if not name.startswith("system/")})
    if figures:
        lines += ["| figure | |", "| --- | ---: |", *(f"| {name} | {_number(v)} |" for name, v in figures.items()), ""]
    files = [item.path for item in store.client.list_artifacts(parent) if not item.is_dir]
    page = f"#/experiments/{run.info.experiment_id}/runs/{parent}/artifacts"
    if files:
        lines += [" · ".join(f"[{name}]({page}/{name})" for name in files), ""]
    if children:
        lines += ["Stages: " + ", ".join(_stage(child) for child in reversed(children))]
    store.client.set_tag(parent, "mlflow.note.content", "\n".join(lines).strip())


def _figures(store: Store, metrics: dict[str, float]) -> dict[str, float]:
    curves = {
        name
        for stage in read_yaml(store.root / "dvc.yaml")["stages"]
        for name in plotted_columns(store.root, stage).values()
    }
    return {name: value for name, value in sorted(metrics.items()) if name not in curves}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def _stage(child: Any) -> str:
    seconds = child.data.metrics.get("seconds")
    return str(child.info.run_name) + (f" {seconds:,.0f} s" if seconds is not None else "")
