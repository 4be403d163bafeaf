"""A mistake in params.yaml is one clear line: file, key, what is allowed."""

import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from flows.plan import override, parse_override
from tasks.core import graph
from tasks.core.errors import UserError
from tasks.core.execution import load_execution
from tasks.core.params import load_params, read_yaml


@pytest.fixture
def project(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(toy)
    return toy


def complaint(text: str) -> str:
    """What load_params says of dedup's block being `text`."""
    folder = Path.cwd()
    (folder / "params.yaml").write_text(text)
    with pytest.raises(UserError) as raised:
        load_params(folder, ["dedup", "pack"])
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("dedup: {treshold: 0.8}", ["params.yaml: dedup.treshold", "unknown key", "Did you mean `threshold`?"]),
        ("dedup: {threshold: 1.5}", ["params.yaml: dedup.threshold", "less than or equal to 1", "1.5"]),
        ("dedup: {threshold: high}", ["params.yaml: dedup.threshold", "valid number", "'high'"]),
        ("dedup: {threshold: .nan}", ["params.yaml: dedup.threshold", "finite"]),
        ("dedupe: {threshold: 0.5}", ["params.yaml: dedupe", "no stage of that name", "dedup"]),
        ("dedup: [1, 2]", ["params.yaml: dedup"]),
        ("dedup: {threshold: 0.8, threshold: 0.9}", ["params.yaml", "not valid YAML", "duplicate key"]),
        ("- 1\n- 2", ["params.yaml", "must be a mapping"]),
        ("dedup: {a: [", ["params.yaml", "not valid YAML"]),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, parts: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    said = complaint(text)
    assert "\n" not in said.strip()
    for part in parts:
        assert part in said


def test_all_mistakes_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = complaint("dedup: {threshold: 3}\npack: {nonsense: 1}")
    assert "dedup.threshold" in said
    assert "pack.nonsense" in said


def test_no_params_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_params(tmp_path, ["dedup"])


def test_the_shipped_parameters_are_valid_and_complete() -> None:
    """Every key of every model is written in params.yaml, so that the file documents all there is to set."""
    stages = list(graph.load_graph(ROOT))
    models = load_params(ROOT, stages)
    blocks = read_yaml(ROOT / "params.yaml")
    assert list(blocks) == [stage for stage in blocks if stage in stages]
    for stage, model in models.items():
        assert set(blocks[stage] or {}) == set(type(model).model_fields), stage
        for field in type(model).model_fields.values():
            assert field.description, f"{stage}: a parameter without a description"


@pytest.mark.parametrize("text", ["workers: 0.5", "worker: 2", "device: tpu", "engine: cloud"])
def test_execution_mistakes(tmp_path: Path, text: str) -> None:
    (tmp_path / "execution.yaml").write_text(text)
    with pytest.raises(UserError, match=r"execution\.yaml: "):
        load_execution(tmp_path)


def test_override_keeps_comments_and_takes_back_a_mistake(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text("# why\n" + path.read_text())
    shutil.copytree(ROOT / "flows", project / "flows", dirs_exist_ok=True)
    with pytest.raises(UserError, match="no block"):
        override(project, {"words.text.deep": 1})
    # The toy's stages are not importable here, so only the editing is looked at.
    before = path.read_text()
    with pytest.raises((UserError, ModuleNotFoundError)):
        override(project, {"words.txt": "a"})
    assert path.read_text() == before


def test_override_on_the_command_line() -> None:
    assert parse_override("dedup.threshold=0.7") == ("dedup.threshold", 0.7)
    assert parse_override("a.b=[1, x]") == ("a.b", [1, "x"])
    for broken in ("a.b", "=1", "a=[", ""):
        with pytest.raises(UserError, match="--param"):
            parse_override(broken)
