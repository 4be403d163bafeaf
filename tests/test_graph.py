"""dvc.yaml, the stage files, params.yaml and the flow tell the same story."""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from conftest import ROOT

from flows.plan import select
from tasks.core import graph
from tasks.core.errors import UserError
from tasks.core.params import load_params, params_model, read_yaml, values_of

STAGES = list(graph.load_graph(ROOT))
FRAME = "tasks.core"


def test_stages_files_and_blocks_agree() -> None:
    files = {path.stem for path in (ROOT / "tasks").glob("*.py")} - {"__init__"}
    assert files == set(STAGES)
    assert set(read_yaml(ROOT / "params.yaml")) == set(STAGES)
    assert {path.stem for path in (ROOT / "metrics").glob("*.json")} <= set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_declared_by_the_rule(stage: str) -> None:
    declared = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    assert declared["cmd"] == f"python -m tasks.{stage}"
    assert declared["params"][0] == stage  # the whole block; then keys of others' blocks
    blocks = load_params(ROOT, STAGES)
    assert set(values_of(blocks, declared["params"][1:])) == set(graph.load_stage(ROOT, stage).settings)
    assert not any(key.startswith(f"{stage}.") for key in declared["params"])
    written = [*declared["outs"], *(path for metric in declared.get("metrics", []) for path in metric)]
    assert written == [f"data/{stage}", f"metrics/{stage}.json"]
    assert params_model(stage).__doc__


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("tasks", cache_dir=None)


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_real_imports(stage: str, imports: grimp.ImportGraph) -> None:
    module = f"tasks.{stage}"
    upstream = {module} | imports.find_upstream_modules(module)
    real = {
        name.replace(".", "/") + ".py"
        for name in upstream
        if not name.startswith(FRAME) and not (ROOT / name.replace(".", "/")).is_dir()
    }
    declared = {dep for dep in read_yaml(ROOT / "dvc.yaml")["stages"][stage]["deps"] if dep.startswith("tasks/")}
    assert {dep for dep in declared if dep.endswith(".py")} == real


def test_the_frame_imports_no_stage(imports: grimp.ImportGraph) -> None:
    for module in imports.modules:
        if module.startswith(FRAME):
            outside = {m for m in imports.find_upstream_modules(module) if m.startswith("tasks.")} - {FRAME}
            assert all(name.startswith(FRAME) for name in outside), (module, outside)


def test_edges_are_those_of_dvc_dag() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--dot"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    edges = {tuple(end.strip().strip('";') for end in line.split("->")) for line in shown.splitlines() if "->" in line}
    ours = {(upstream, node.name) for node in graph.load_graph(ROOT).values() for upstream in node.upstream}
    assert ours == edges


def test_order_selection_and_relatives() -> None:
    seen: set[str] = set()
    for node in graph.load_graph(ROOT).values():
        assert seen.issuperset(node.upstream)
        seen.add(node.name)
    assert select(ROOT, None, None) == STAGES
    assert select(ROOT, ["tokenizer"], None)[-1] == "tokenizer"
    assert set(select(ROOT, ["pack"], None)) == {"pack", *graph.ancestors(ROOT, "pack")}
    assert select(ROOT, None, "pretrain")[0] == "pretrain"
    assert "scrape" not in graph.descendants(ROOT, "scrape")
    for wrong in ({"stages": ["nope"], "from_stage": None}, {"stages": ["pack"], "from_stage": "pack"}):
        with pytest.raises(UserError):
            select(ROOT, **wrong)  # type: ignore[arg-type]


def test_reading_the_graph_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="root of the project"):
        graph.load_graph(tmp_path)
