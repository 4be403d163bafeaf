"""dvc.yaml, the stage files, params.yaml and the flow tell the same story."""

import json
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from flows.run_plan import select_stages
from tasks.core import graph
from tasks.core.errors import UserError
from tasks.core.params import load_params, params_model, read_yaml, select_values
from tests.helpers.checkout import ROOT

STAGES = list(graph.load_graph(ROOT))
FRAME = "tasks.core"


def test_stages_files_and_blocks_agree() -> None:
    assert {path.parent.name for path in (ROOT / "tasks").glob("*/stage.py")} == set(STAGES)
    assert set(read_yaml(ROOT / "params.yaml")) == set(STAGES)
    measured = {path.stem for path in (ROOT / "metrics").glob("*.json")}
    assert measured <= set(STAGES), (
        f"no stages of these names: remove metrics/{{{','.join(measured - set(STAGES))}}}.json"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_started_in_one_way(stage: str) -> None:
    main = (ROOT / "tasks" / stage / "__main__.py").read_text()
    imports = sorted(("from tasks.core.stage_main import stage_main", f"from tasks.{stage}.stage import run"))
    assert main == "\n".join([*imports, "", "stage_main(run)", ""])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_declared_by_the_rule(stage: str) -> None:
    declared = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    assert declared["cmd"] == f"python -m tasks.{stage}"
    assert declared["params"][0] == stage  # the whole block; then keys of others' blocks
    blocks = load_params(ROOT, STAGES)
    assert set(select_values(blocks, declared["params"][1:])) == set(graph.load_stage(ROOT, stage).settings)
    assert not any(key.startswith(f"{stage}.") for key in declared["params"])
    written = [*declared["outs"], *(path for metric in declared.get("metrics", []) for path in metric)]
    assert written == [f"data/{stage}", f"metrics/{stage}.json"]
    assert params_model(stage).__doc__


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("tasks", cache_dir=None)


def file_of(module: str) -> str:
    return module.replace(".", "/") + ".py"


def code_of(stage: str, imports: grimp.ImportGraph) -> set[str]:
    """The files that a stage runs outside its own folder and the frame: what it imports, and what its workers are to import."""
    own = {f"tasks.{stage}", *imports.find_descendants(f"tasks.{stage}")}
    named = {name for module in own for name in re.findall(r'"(tasks\.[\w.]+)"', source_of(module))} & imports.modules
    reached = set[str]().union(*(imports.find_upstream_modules(module) | {module} for module in own | named))
    return {
        file_of(name)
        for name in reached - own
        if not name.startswith(FRAME) and not (ROOT / name.replace(".", "/")).is_dir()
    }


def source_of(module: str) -> str:
    path = ROOT / file_of(module)
    return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_real_imports(stage: str, imports: grimp.ImportGraph) -> None:
    """A change of a shared module reruns all stages that import it, and no others."""
    declared = [dep for dep in read_yaml(ROOT / "dvc.yaml")["stages"][stage]["deps"] if dep.startswith("tasks/")]
    assert declared[0] == f"tasks/{stage}"
    files: set[str] = set()
    for path in (ROOT / dep for dep in declared[1:]):
        found = [path] if path.is_file() else [file for file in path.rglob("*.py") if file.name != "__init__.py"]
        assert found, path
        files.update(file.relative_to(ROOT).as_posix() for file in found)
    real = code_of(stage, imports)
    assert files == real, f"dvc.yaml: {stage}: deps: add {sorted(real - files)}, remove {sorted(files - real)}"


def test_dvc_yaml_is_read_in_a_minute() -> None:
    lines = len((ROOT / "dvc.yaml").read_text().splitlines())
    assert lines <= 32 + 15 * len(STAGES), "write a room a line, or a room by its name where all of it is imported"


def changed(project: Path) -> set[str]:
    """The stages whose own dependencies DVC finds changed."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    return set(json.loads(subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout))


def test_a_change_in_a_stages_folder_is_that_stages(toy: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=toy, capture_output=True, check=True)
    assert changed(toy) == set()
    (toy / "tasks/left/helper.py").write_text("x = 1\n")
    assert changed(toy) == {"left"}
    (toy / "tasks/left/helper.py").unlink()
    for left in (
        "__pycache__/stage.cpython-313.pyc",
        ".stage.py.swp",
        "stage.py~",
        ".idea/x.xml",
        ".DS_Store",
        "#stage.py#",
    ):
        path = toy / "tasks/left" / left
        path.parent.mkdir(exist_ok=True)
        path.write_text("left by an editor, a system, or Python")
    assert changed(toy) == set()


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
    assert select_stages(ROOT, None, None) == STAGES
    assert select_stages(ROOT, ["tokenizer"], None)[-1] == "tokenizer"
    assert set(select_stages(ROOT, ["pack"], None)) == {"pack", *graph.ancestors(ROOT, "pack")}
    assert select_stages(ROOT, None, "pretrain")[0] == "pretrain"
    assert "scrape" not in graph.descendants(ROOT, "scrape")
    for wrong in ({"stages": ["nope"], "from_stage": None}, {"stages": ["pack"], "from_stage": "pack"}):
        with pytest.raises(UserError):
            select_stages(ROOT, **wrong)  # type: ignore[arg-type]


def test_reading_the_graph_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="root of the project"):
        graph.load_graph(tmp_path)
