"""Sweeps: every combination once, checked before the first, done ones skipped, one parent in MLflow, a table and a chart."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.sweep import read_points
from flows.sweep_report import write_page
from tasks.core.errors import UserError
from tasks.core.params import read_yaml
from tests.helpers.checkout import ROOT
from tests.helpers.running import runs, wait_for


def points(folder: Path, text: str):
    (folder / "grid.yaml").write_text(text)
    return read_points(folder / "grid.yaml")


def test_points_are_every_combination(tmp_path):
    name, stage, found = points(tmp_path, "set: {a.x: 1}\ngrid: {b.y: [1, 2], b.z: [p, q]}\n")
    assert (name, stage) == ("grid", "pretrain")
    assert found == [{"a.x": 1, "b.y": y, "b.z": z} for y in (1, 2) for z in ("p", "q")]
    name, stage, found = points(tmp_path, "name: n\nstage: pack\ngrid: {b: [1, 2]}\nlist: [{a: 5}, {a: 6, b: 7}]\n")
    assert (name, stage) == ("n", "pack")
    assert found == [{"a": 5, "b": 1}, {"a": 5, "b": 2}, {"a": 6, "b": 1}, {"a": 6, "b": 2}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gird: {a: [1]}", "gird: unknown key. Allowed: grid, list"),
        ("grid: {a: 1}", "grid: one of keys to lists"),
        ("list: {a: 1}", "list: is a list of mappings"),
        ("name: x", "no points"),
        ("grid: {a: []}", "no points"),
    ],
)
def test_mistakes_in_the_file(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        points(tmp_path, text)


def test_the_page_draws_a_line_a_size(tmp_path):
    rows = [
        {
            "overrides": {"pretrain.seed": seed, "k": 1},
            "measured": {},
            "blocks": blocks,
            "head": 10**6,
            "tokens": tokens,
        }
        | {"flops": 6.0 * blocks * tokens, "bits_per_byte": 2.0 + seed / 10 - tokens / 1e8}
        for blocks in (10**6, 3 * 10**6)
        for tokens in (10**6, 2 * 10**6)
        for seed in (0, 1)
    ]
    text = write_page(tmp_path / "page.html", "mine", rows).read_text()
    assert text.count("<polyline") == 2
    assert "<th>pretrain.seed</th>" in text
    assert "<th>k</th>" not in text  # the same everywhere
    assert text.index("1.98") < text.index("2.09")
    assert "http" not in text


def test_the_grid_that_is_shipped_is_valid():
    from flows.param_overrides import edited_yaml
    from flows.sweep import read_text
    from tasks.core.graph import load_graph
    from tasks.core.params import check_params

    _, _, found = read_points(ROOT / "tasks/plan/fits/default.yaml")
    for point in found:
        check_params(read_text(edited_yaml(ROOT / "params.yaml", point)), list(load_graph(ROOT)))


def sweep(project: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.sweep", "grid.yaml"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on(toy):
    grid = "name: words\nstage: join\nset: {join.sleep_s: 1.0}\ngrid: {words.text: [A, BB, CCC]}\n"
    (toy / "grid.yaml").write_text(grid)
    before = read_yaml(toy / "params.yaml")
    started = sweep(toy)
    exps = toy / ".git/refs/exps"
    wait_for(lambda: [path for path in exps.rglob("words-*") if path.is_file()])
    started.send_signal(signal.SIGTERM)
    said, _ = started.communicate(timeout=120)
    assert started.returncode == 75, said
    again = sweep(toy)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert "3 points, of which 1 are done" in said
    assert said.count("Ran experiment(s)") == 2
    assert read_yaml(toy / "params.yaml") == before  # the workspace stays as it is
    rows = json.loads((toy / ".textmill/sweeps/words/runs.json").read_text())["runs"]
    assert {row["overrides"]["words.text"]: row["measured"]["length"] for row in rows} == {"A": 5, "BB": 7, "CCC": 9}
    found = runs(toy)
    (parent,) = [run for run in found if run.data.tags.get("textmill.sweep") == "words"]
    beneath = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.tags["dvc.experiment"] for run in beneath} == {row["experiment"] for row in rows}
    assert "<th>length</th>" in (toy / ".textmill/sweeps/words/index.html").read_text()
    assert sweep(toy).communicate(timeout=120)[0].count("Ran experiment(s)") == 0


@pytest.mark.slow
def test_a_point_that_is_wrong_is_told_before_any_is_run(toy):
    (toy / "grid.yaml").write_text("grid: {words.txt: [A]}\nstage: join\n")
    started = sweep(toy)
    said, _ = started.communicate(timeout=120)
    assert started.returncode == 2
    assert "words.txt: unknown key" in said
    assert not (toy / ".git/refs/exps").exists()
