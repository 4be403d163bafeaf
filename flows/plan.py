"""What a flow run has to do: the stages asked for, overrides of parameters, what is up to date already."""

import shutil
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows.workspace import mend_locks
from tasks.core import graph
from tasks.core.errors import UserError, missing_package
from tasks.core.params import check_params, read_yaml


def select(root: Path, stages: list[str] | None, from_stage: str | None) -> list[str]:
    """The stages to bring up to date, in the order of the graph.

    `stages` and all they need; or `from_stage` and all that needs it; or, with neither, every stage.

    Raises:
        UserError: an unknown stage, or both given.
    """
    if stages and from_stage:
        raise UserError("stages and from_stage exclude each other: give one of them")
    if from_stage:
        graph.load_stage(root, from_stage)
        wanted = {from_stage, *graph.descendants(root, from_stage)}
    elif stages:
        wanted = set()
        for stage in stages:
            graph.load_stage(root, stage)
            wanted |= {stage, *graph.ancestors(root, stage)}
    else:
        wanted = set(graph.load_graph(root))
    return [stage for stage in graph.load_graph(root) if stage in wanted]


def override(root: Path, params: dict[str, Any]) -> None:
    """Set dotted keys in params.yaml, comments kept, after checking the result. As `dvc exp run -S`, it edits the file.

    Raises:
        UserError: as `check`; params.yaml is then untouched.
    """
    check(root, params)
    if not params:
        return
    text = _edited(root, params)
    path = root / "params.yaml"
    beside = path.with_name(".params.yaml.partial")
    beside.write_text(text, encoding="utf-8")
    shutil.copymode(path, beside)
    beside.replace(path)


def _edited(root: Path, params: dict[str, Any]) -> str:
    path = root / "params.yaml"
    read_yaml(path)  # complains of what is no YAML
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    content = yaml.load(path)
    for key, value in params.items():
        node: Any = content
        *parents, last = key.split(".")
        for part in parents:
            if not isinstance(node, dict) or not isinstance(node.setdefault(part, {}), dict):
                raise UserError(f"params: {key}: {part} is no block of params.yaml")
            node = node[part]
        node[last] = value
    text = StringIO()
    yaml.dump(content, text)
    return text.getvalue()


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` of the command line; the value is YAML.

    Raises:
        UserError: no `=` in it, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--param {text}: must be KEY=VALUE, e.g. dedup.threshold=0.7")
    try:
        return key, YAML(typ="safe").load(value)
    except YAMLError as error:
        raise UserError(f"--param {text}: the value is not valid YAML: {' '.join(str(error).split())}") from None


def check(root: Path, params: dict[str, Any] | None = None) -> None:
    """Check params.yaml (as it would be with the dotted keys of `params` set), execution.yaml and dvc.yaml.

    Raises:
        UserError: what is wrong, one mistake a line.
    """
    from tasks.core.execution import load_execution

    path = root / "params.yaml"
    blocks = YAML(typ="safe").load(_edited(root, params)) if params else read_yaml(path)
    try:
        check_params(blocks, list(graph.load_graph(root)))
    except ImportError as error:  # of a stage's module
        raise UserError(missing_package(error)) from None
    load_execution(root)


def outdated(root: Path, stages: list[str]) -> set[str]:
    """Those of `stages` that are not known to be up to date: they or something they read from changed.

    Raises:
        UserError: another DVC process writes in this workspace.
    """
    from dvc.lock import LockError

    mend_locks(root)
    with graph.open_repo(root) as repo:
        try:
            status = repo.status()
        except LockError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"another DVC process works in this workspace, wait for it to end: {reason}") from None
        # DVC names a stage `path/to/dvc.yaml:name` when asked from another folder.
        changed = {name.rpartition(":")[2] for name in status}.intersection(stages)
    for stage in stages:
        if changed.intersection(graph.load_stage(root, stage).upstream):
            changed.add(stage)
    return changed
