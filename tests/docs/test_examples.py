"""What the documentation shows works: stages run, parameters are valid, keys and modules exist."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from flows.release.rules import Rules
from tasks.core import graph, stage_main
from tasks.core.execution import Execution
from tasks.core.params import StageParams, params_model, read_yaml, validate
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import SCHEMA, read_shard, write_shard
from tests.helpers.checkout import ROOT
from tests.helpers.documentation import CURRENT, PAGES, Page

STAGES = list(graph.load_graph(ROOT))
MODELS: dict[str, type[BaseModel]] = {name: params_model(name) for name in STAGES}
EXAMPLES = ("params.yaml", "execution.yaml", "release.yaml", "dvc.yaml")
ITS_PAGE = next(page for page in PAGES if page.name == "docs/add-a-stage.md")


def ids(page: Page) -> str:
    return page.name


@pytest.fixture
def shout(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the stage that docs/add-a-stage.md adds."""
    module = ModuleType("tasks.shout.stage")
    code = next(block for language, block in ITS_PAGE.blocks if language == "python")
    exec(compile(code, "stage.py", "exec"), module.__dict__)  # noqa: S102 - the documentation's own code
    monkeypatch.setitem(sys.modules, "tasks.shout", ModuleType("tasks.shout"))
    monkeypatch.setitem(sys.modules, "tasks.shout.stage", module)
    return module


def test_the_example_stage_runs(shout: ModuleType, tmp_path: Path) -> None:
    row = {field.name: None for field in SCHEMA} | {"id": "1", "text": "a café", "source": "s", "meta": "{}"}
    write_shard(pa.Table.from_pylist([row], schema=SCHEMA), tmp_path / "in/part-0.parquet")
    metrics = shout.run(
        shout.ShoutParams(), Inputs({"documents": tmp_path / "in"}), Outputs(tmp_path / "out", tmp_path)
    )
    assert read_shard(tmp_path / "out/documents/part-0.parquet")["text"].to_pylist() == ["A CAFÉ"]
    assert metrics["documents_in"] == metrics["documents_out"] == 1


def test_its_main_starts_it(shout: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(stage_main, "stage_main", started.append)
    main = [block for language, block in ITS_PAGE.blocks if language == "python"][1]
    exec(compile(main, "__main__.py", "exec"), {"__name__": "__main__"})  # noqa: S102
    assert started == [shout.run]
    real = (ROOT / "tasks/dedup/__main__.py").read_text(encoding="utf-8")
    assert main.replace("shout", "dedup").split() == re.sub(r'^""".*?"""', "", real, flags=re.DOTALL).split()


def test_its_declaration_names_what_it_imports() -> None:
    import grimp

    code = next(block for language, block in ITS_PAGE.blocks if language == "python")
    imports = grimp.build_graph("tasks", cache_dir=None)
    direct = set(re.findall(r"^from (tasks\.[\w.]+) import", code, re.MULTILINE))
    needed = direct.union(*(imports.find_upstream_modules(module) for module in direct))
    modules = {
        name for name in needed if not name.startswith("tasks.core") and not (ROOT / name.replace(".", "/")).is_dir()
    }
    declared = YAML(typ="safe").load(ITS_PAGE.yaml("dvc.yaml")[0])["stages"]["shout"]
    assert {dep for dep in declared["deps"] if dep.endswith(".py")} == {
        f"{name.replace('.', '/')}.py" for name in modules
    }
    real = read_yaml(ROOT / "dvc.yaml")["stages"]["dedup"]
    assert {**real, "deps": 0, "meta": 0} == {
        key: YAML(typ="safe").load(str(value).replace("shout", "dedup")) for key, value in declared.items()
    } | {"deps": 0, "meta": 0}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_parameters_of_examples_are_valid(page: Page, shout: ModuleType) -> None:
    models = MODELS | ({"shout": shout.ShoutParams} if page is ITS_PAGE else {})
    for text in page.yaml("params.yaml"):
        for block, values in YAML(typ="safe").load(text).items():
            validate(models[block], values, f"{page.name}: {block}")
    for text in page.yaml("execution.yaml"):
        validate(Execution, YAML(typ="safe").load(text), f"{page.name}: ")
    for text in page.yaml("release.yaml"):
        validate(Rules, YAML(typ="safe").load(text), f"{page.name}: ")
    yaml = [block for language, block in page.blocks if language == "yaml"]
    assert len(yaml) == sum(len(page.yaml(file)) for file in EXAMPLES), "an example that does not say of which file"


@pytest.mark.parametrize("page", CURRENT, ids=ids)
def test_keys_in_the_text_exist_and_take_the_values_shown(page: Page) -> None:
    for code in page.code:
        if (found := re.match(r"(\w+)\.([\w.]+)(: .+)?$", code)) and found[1] in MODELS:
            block, keys, value = found[1], found[2].split("."), found[3]
            if keys[-1] in ("py", "jsonl", "json"):
                continue
            require_key(MODELS[block], keys, f"{page.name}: {code}")
            if value and not re.search(r"\b[A-Z]{3,}\b|owner/name", value):
                given: Any = YAML(typ="safe").load(value[2:])
                for key in reversed(keys):
                    given = {key: given}
                validate(MODELS[block], given, f"{page.name}: {block}")


def require_key(model: Any, keys: list[str], where: str) -> None:
    from infra.reference import models_in

    assert keys[0] in model.model_fields, where
    for inner in models_in(model.model_fields[keys[0]].annotation) if keys[1:] else ():
        if keys[1] in inner.model_fields:
            return require_key(inner, keys[1:], where)
    assert not keys[1:], where
    return None


def test_the_keys_of_sources_exist() -> None:
    from infra.reference import SOURCES

    text = next(page for page in PAGES if page.name == "docs/sources.md").text
    rows = re.findall(r"^\| \[`(\w+)`\]\(reference.md#source-\w+\) \|.*\|(.*)\|$", text, re.MULTILINE)
    assert {kind for kind, _ in rows} == set(SOURCES)
    for kind, keys in rows:
        assert set(re.findall(r"`(\w+)`", keys)) <= set(SOURCES[kind].model_fields), kind


@pytest.mark.parametrize("page", CURRENT, ids=ids)
def test_python_that_is_not_run_is_python(page: Page) -> None:
    for language, block in page.blocks:
        if language == "py":
            compile(block, page.name, "exec")


def test_the_models_are_those_of_the_pipeline() -> None:
    assert all(issubclass(model, StageParams) for model in MODELS.values())
