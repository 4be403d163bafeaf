"""A mistake in params.yaml is one clear line: file, key, what is allowed."""

import shutil
from difflib import ndiff
from pathlib import Path
from typing import Any

import pytest

from flows import param_overrides, run_plan
from flows.param_overrides import parse_override
from tasks.core import graph
from tasks.core.errors import UserError
from tasks.core.execution import load_execution
from tasks.core.params import load_params, read_yaml
from tests.helpers.checkout import ROOT


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


def test_a_mistaken_override_is_told_before_the_file_is_touched(project: Path) -> None:
    shutil.copytree(ROOT / "flows", project / "flows", dirs_exist_ok=True)
    with pytest.raises(UserError, match="no block"):
        run_plan.check_project(project, {"words.text.deep": 1})
    with pytest.raises(UserError, match="no block"):
        param_overrides.write_overrides(project / "params.yaml", {"words.text.deep": 1})


def leaves(block: Any, key: str = "") -> dict[str, Any]:
    """Dotted keys of params.yaml with their values; of a block that is empty, its own."""
    if isinstance(block, dict) and block:
        return {k: v for name, inner in block.items() for k, v in leaves(inner, f"{key}.{name}").items()}
    return {key.removeprefix("."): block}


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in ndiff(before.splitlines(), after.splitlines()) if line[0] in "-+"]


def value_at(path: Path, key: str) -> Any:
    value: Any = read_yaml(path)
    for part in key.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("value", [7, 0.25, "words with spaces: and # signs", None, [1, "b"], {"a": {"b": [None]}}])
def test_an_override_changes_the_line_of_its_key(tmp_path: Path, value: Any) -> None:
    path, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    kinds = {type(old): (key, old) for key, old in leaves(read_yaml(ROOT / "params.yaml")).items()}
    kinds["block"] = ("scrape.sources", [...])
    for key, old in kinds.values():
        path.write_text(text)
        param_overrides.write_overrides(path, {key: value})
        assert value_at(path, key) == value
        lines = changed_lines(text, path.read_text())
        assert len(lines) <= 2 if not isinstance(old, list) else lines, key
        assert path.read_text().count(" # ") >= text.count(" # "), key


LAID_OUT_OTHERWISE = """# mine
scrape:
    sources:   # all of them
        - {name: a,   kind: files}
        - name: "b"
          kind: files # last

# Next.
dedup: { threshold: 0.8,  levels: [exact] }   # one line
pack:
    mixture: ~
    text: >
      two
      lines
plan:
  budget: # later
    5
finetune:
report: {}"""


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        ("pack.mixture", 3, "mixture: ~\n", "mixture: 3\n"),
        ("pack.mixture.weights.web", 3, "mixture: ~\n", "mixture: {weights: {web: 3}}\n"),
        ("dedup.threshold", 0.7, "threshold: 0.8,", "threshold: 0.7,"),
        ("dedup.index", "a: b", "levels: [exact] }", "levels: [exact], index: 'a: b'}"),
        ("dedup.levels", None, "levels: [exact] }", "levels: null }"),
        ("pack.new", [1, None], "      lines\n", "      lines\n    new: [1, null]\n"),
        ("pack.text", "a\nb", "text: >\n      two\n      lines\n", 'text: "a\\nb"\n'),
        ("finetune.epochs", 2, "finetune:\n", "finetune: {epochs: 2}\n"),
        ("plan.budget", 1, "budget: # later\n    5\n", "budget: 1 # later\n"),
        ("report.title", "é", "report: {}", "report: {title: é}"),
        ("prefer", True, "report: {}", "report: {}\nprefer: true\n"),
        (
            "scrape.sources",
            [],
            """sources:   # all of them
        - {name: a,   kind: files}
        - name: "b"
          kind: files # last
""",
            "sources: []   # all of them\n",
        ),
    ],
)
def test_an_override_leaves_the_rest_as_its_writer_laid_it_out(
    tmp_path: Path, key: str, value: Any, old: str, new: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(LAID_OUT_OTHERWISE)
    param_overrides.write_overrides(path, {key: value})
    assert path.read_text() == LAID_OUT_OTHERWISE.replace(old, new)
    assert value_at(path, key) == value


@pytest.mark.parametrize(
    "value", ["https://example.org/#a", "a:b", "yes", "1.0", "- x", "\x85\u2028é", "'\"\\", "a\nb"]
)
def test_yaml_reads_back_what_was_set(tmp_path: Path, value: str) -> None:
    path, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    for wrapped in (value, [value], [{"name": value, "paths": [value]}], {"web": [value]}):
        for key in ("report.title", "tokenizer.compare", "evaluate.prompts", "pack.mixture.weights"):
            path.write_text(text)
            param_overrides.write_overrides(path, {key: wrapped})
            assert value_at(path, key) == wrapped


def test_a_list_whose_items_have_lines_keeps_that_form(tmp_path: Path) -> None:
    path, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    path.write_text(text)
    param_overrides.write_overrides(
        path, {"evaluate.prompts": ["Say why", "When: five"], "scrape.sources": [{"name": "a", "kind": "web"}]}
    )
    lines = changed_lines(text, path.read_text())
    assert [line for line in lines if line[0] == "+"] == [
        "+   - {name: a, kind: web}",
        "+   - Say why",
        "+   - 'When: five'",
    ]
    assert sum(line.startswith("-   - ") for line in lines) == len(lines) - 3


def test_dvc_lays_params_yaml_out_as_it_stands(tmp_path: Path) -> None:
    """So `dvc exp run -S` changes the line of its key alone. It indents no lists, quotes no more than it must, and
    writes null as nothing: write new keys so.
    """
    from dvc.utils.serialize import modify_yaml

    path = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    with modify_yaml(str(path)) as params:
        params["dedup"]["threshold"] = 0.85
    before = (ROOT / "params.yaml").read_text()
    lines = changed_lines(before, path.read_text())
    assert len(lines) == 2, lines
    assert all("threshold: 0.8" in line for line in lines)


def test_override_on_the_command_line() -> None:
    assert parse_override("dedup.threshold=0.7") == ("dedup.threshold", 0.7)
    assert parse_override("a.b=[1, x]") == ("a.b", [1, "x"])
    for broken in ("a.b", "=1", "a=[", ""):
        with pytest.raises(UserError, match="--param"):
            parse_override(broken)
