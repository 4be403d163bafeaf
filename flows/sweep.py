"""Sweep: `make sweep GRID=FILE` trains every point of a grid or a list of parameters, as experiments of DVC, one after the other.

FILE is YAML: `name`; `stage`, the last one to run (pretrain); `set`, what holds for all points; `grid`, key → values, of which
every combination is a point; `list`, points by themselves, each with every combination of the grid.

A point is an experiment whose name says what decides it: overrides, params.yaml, the commit and what has changed since. Those
that DVC has are done, so an interrupted sweep goes on where it was, and the training in which it was stopped too.
"""

import argparse
import hashlib
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from flows.param_overrides import edited_yaml
from flows.sweep_report import write_page
from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from tasks.core.graph import load_graph
from tasks.core.logs import start_log
from tasks.core.params import check_params, read_yaml
from tasks.core.paths import STATE, write_json
from tasks.core.tracking.store import flat_metrics

log = logging.getLogger("textmill.sweep")
DVC = [sys.executable, "-m", "dvc"]
KEYS = {"name", "stage", "set", "grid", "list"}
Overrides = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One experiment: what it overrides, and its name."""

    overrides: Overrides
    name: str


def read_points(path: Path) -> tuple[str, str, list[Overrides]]:
    """The sweep's name, its last stage, and the overrides of each point.

    Raises:
        UserError: the file is of another form, or holds no point.
    """
    content = read_yaml(path)
    if unknown := set(content) - KEYS:
        raise UserError(f"{path}: {', '.join(sorted(unknown))}: unknown key. Allowed: {', '.join(sorted(KEYS))}")
    everywhere, grid, listed = content.get("set") or {}, content.get("grid") or {}, content.get("list") or [{}]
    if (
        not isinstance(everywhere, dict)
        or not isinstance(grid, dict)
        or not all(isinstance(v, list) for v in grid.values())
    ):
        raise UserError(f"{path}: set: is a mapping of keys to values, grid: one of keys to lists of values")
    if not isinstance(listed, list) or not all(isinstance(point, dict) for point in listed):
        raise UserError(f"{path}: list: is a list of mappings of keys to values")
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    points = [{**everywhere, **point, **combination} for point in listed for combination in combinations]
    if not points or not any(points):
        raise UserError(f"{path}: no points: name values under grid, or points under list")
    return str(content.get("name", path.stem)), str(content.get("stage", "pretrain")), points


def named_points(root: Path, name: str, overrides: Sequence[Overrides]) -> list[Point]:
    """The points with their experiments' names; each once.

    Raises:
        UserError: a point's parameters are not valid; before any is trained.
    """
    state = [
        (root / "params.yaml").read_text(),
        _git(root, "rev-parse", "HEAD"),
        _git(root, "diff", "HEAD", "--", ".", ":!*.md"),
    ]
    stages, points = list(load_graph(root)), {}
    for point in overrides:
        try:
            check_params(read_text(edited_yaml(root / "params.yaml", point)), stages)
        except UserError as error:
            raise UserError(f"{point}: {error}") from None
        content = json.dumps([state, sorted(point.items())], default=str)
        mark = hashlib.sha256(content.encode()).hexdigest()[:8]
        points[mark] = Point(point, f"{name}-{mark}")
    return list(points.values())


def read_text(text: str) -> dict[str, Any]:
    """The mapping in YAML text that has been checked."""
    from ruamel.yaml import YAML

    content: dict[str, Any] = YAML(typ="safe").load(text)
    return content


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def run_sweep(root: Path, path: Path) -> Path:
    """Train what is missing, and write the page and the runs; returns the page's path.

    Raises:
        UserError: the file of points, or a point.
    """
    from tasks.core.tracking.store import open_store

    name, stage, overrides = read_points(path)
    points = named_points(root, name, overrides)
    done = experiments(root)
    log.info("%s: %d points, of which %d are done", name, len(points), sum(point.name in done for point in points))
    failed: list[str] = []
    for number, point in enumerate(points, 1):
        if point.name in done:
            continue
        log.info("%s: %d of %d: %s", name, number, len(points), _said(point.overrides))
        if not _run(root, point, stage):
            failed.append(_said(point.overrides))
    done = experiments(root)
    rows = [
        {"overrides": point.overrides, "experiment": point.name} | results(root, point.name, stage)
        for point in points
        if point.name in done
    ]
    folder = root / STATE / "sweeps" / name
    write_json(folder / "runs.json", {"runs": rows})
    page = write_page(folder / "index.html", name, rows)
    link_runs(open_store(root), name, [point.name for point in points])
    if failed:
        raise UserError(f"{page}: {len(failed)} points failed: {'; '.join(failed)}. Start again to try them anew")
    return page


def _run(root: Path, point: Point, stage: str) -> bool:
    settings = [part for key, value in point.overrides.items() for part in ("-S", f"{key}={json.dumps(value)}")]
    command = [*DVC, "exp", "run", "--temp", "-n", point.name, *settings, stage]
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL)
    try:
        return process.wait() == 0
    except BaseException:  # the stage saves a checkpoint before it ends
        process.terminate()
        process.wait()
        raise


def experiments(root: Path) -> set[str]:
    """Names of the experiments that DVC has."""
    command = [*DVC, "exp", "list", "--all-commits", "--name-only"]
    return set(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split())


def results(root: Path, experiment: str, stage: str) -> dict[str, Any]:
    """What an experiment's last stage measured, from DVC's cache; of training by a plan also what the fit of a law needs."""
    from dvc.repo import Repo

    with Repo.open(str(root), rev=experiment, subrepos=True, uninitialized=True) as repo:

        def read(path: str) -> Any:
            with repo.dvcfs.open(path, "r", encoding="utf-8") as file:
                return json.load(file)

        measured = read(f"metrics/{stage}.json")
        if stage != "pretrain" or "plan" not in read_text((root / "dvc.yaml").read_text())["stages"]:
            return {"measured": flat_metrics(measured)}
        plan, packed = read("data/plan/plan.json"), read("metrics/pack.json")
    run, values, text = plan["run"], plan["values"], plan["text"]
    return {
        "measured": {},
        "blocks": run.get("blocks"),
        "head": run.get("head"),
        "tokens": run["tokens"],
        "unique_tokens": packed["train"]["rows"] * packed["context_length"],
        "flops": run["flops"],
        "bits_per_byte": measured["validation_bits_per_byte"],
        "vocabulary_size": text["vocabulary_size"],
        "context_length": text["context_length"],
        **values,
    }


def link_runs(store: Any, name: str, names: Sequence[str]) -> str:
    """Put the experiments' runs in MLflow under one parent, the sweep's; returns its id."""
    found = store.search(f"tags.`textmill.sweep` = '{name}'")
    tags = {"textmill.sweep": name, "textmill.kind": "sweep"}
    parent = str(found[0].info.run_id) if found else store.create_parent(f"sweep {name}", f"make sweep ({name})", tags)
    for experiment in names:
        for run in store.search(f"tags.`dvc.experiment` = '{experiment}'"):
            store.client.set_tag(run.info.run_id, "mlflow.parentRunId", parent)
    store.client.set_terminated(parent, "FINISHED")
    return str(parent)


def _said(overrides: Overrides) -> str:
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in overrides.items())


def main(arguments: list[str] | None = None) -> int:
    """Sweep; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("grid", type=Path, help="YAML file of points: grid, list, set, name, stage")
    start_log(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is under way is stopped and saved
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started this in the background
    try:
        page = run_sweep(Path.cwd(), parser.parse_args(arguments).grid)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted: start again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(f"{page}, with runs.json beside it, which python -m tasks.plan.fit reads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
