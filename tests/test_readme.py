"""What the README says holds: its example stage runs, its drawing is the graph, its commands exist."""

import itertools
import re
from pathlib import Path

import pyarrow as pa
from conftest import ROOT

from tasks.core import graph
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import SCHEMA, read_shard, write_shard

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_stage_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    names: dict[str, object] = {"__name__": "tasks.shout"}
    exec(compile(code.group(1), "shout.py", "exec"), names)  # noqa: S102 - the README's own code
    row = {field.name: None for field in SCHEMA} | {"id": "1", "text": "a café", "source": "s", "meta": "{}"}
    write_shard(pa.Table.from_pylist([row], schema=SCHEMA), tmp_path / "in/part-0.parquet")
    run, params = names["run"], names["ShoutParams"]
    metrics = run(params(), Inputs({"documents": tmp_path / "in"}), Outputs(tmp_path / "out", tmp_path))  # type: ignore[operator]
    assert read_shard(tmp_path / "out/documents/part-0.parquet")["text"].to_pylist() == ["A CAFÉ"]
    assert metrics["documents_in"] == metrics["documents_out"] == 1


def test_the_drawing_is_the_graph() -> None:
    drawing = re.search(r"```mermaid\n(.*?)```", README, re.DOTALL)
    assert drawing is not None
    chains = [line.split("-->") for line in drawing.group(1).splitlines() if "-->" in line]
    drawn = {(a.strip(), b.strip()) for chain in chains for a, b in itertools.pairwise(chain)}
    real = {(upstream, node.name) for node in graph.load_graph(ROOT).values() for upstream in node.upstream}
    # report reads the metrics of every stage; the drawing shows it after the last ones only
    assert drawn - real == set()
    assert {edge for edge in real - drawn if edge[1] != "report"} == set()


def test_its_commands_and_files_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE)) <= targets
    for module in re.findall(r"python -m ((?:flows|tasks)\.[a-z_.]+)", README):
        code = ROOT / module.replace(".", "/")
        assert code.with_suffix(".py").exists() or (code / "__main__.py").exists() or module == "tasks.shout"
    listed = re.search(r"## Files\n\n```\n(.*?)```", README, re.DOTALL)
    assert listed is not None
    for line in listed.group(1).splitlines():
        folder = ROOT / "tasks" if line.startswith("  ") else ROOT
        for name in re.match(r"\s*((?:[\w.]+/? )+)", line + " ")[1].split():  # type: ignore[index]
            assert (folder / name).exists(), name
