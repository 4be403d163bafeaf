"""What a flow run has to do: the stages asked for, overrides of parameters, what is up to date already."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows.param_overrides import edited_yaml
from flows.run_lock import repair_dvc_lock
from tasks.core import graph
from tasks.core.errors import UserError, missing_package
from tasks.core.params import StageParams, check_params, read_yaml
from tasks.core.publish import require_no_symlinks


def select_stages(root: Path, stages: list[str] | None, from_stage: str | None) -> list[str]:
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


def check_project(root: Path, params: dict[str, Any] | None = None) -> dict[str, StageParams]:
    """Check params.yaml (as it would be with the dotted keys of `params` set), execution.yaml, dvc.yaml and where outputs go.

    Returns the parameters by stage.

    Raises:
        UserError: what is wrong, one mistake a line.
    """
    from tasks.core.execution import load_execution

    path = root / "params.yaml"
    blocks = YAML(typ="safe").load(edited_yaml(path, params)) if params else read_yaml(path)
    if missing := [
        stage for stage in graph.load_graph(root) if stage not in blocks
    ]:  # DVC would say so when it is their turn
        raise UserError(
            "\n".join(
                f"params.yaml: {name}: no such block. Write one; for the defaults: {name}: {{}}" for name in missing
            )
        )
    try:
        checked = check_params(blocks, list(graph.load_graph(root)))
    except ImportError as error:  # of a stage's module
        raise UserError(missing_package(error)) from None
    load_execution(root)
    for stage in checked:
        require_no_symlinks(root, stage)
    given = [getattr(checked.get(stage), "start_from", None) for stage in ("pretrain", "finetune")]
    if any(given):
        from tasks.model.start_from import entry_stage

        entry_stage(*given)
    return checked


def check_paths(root: Path, params: dict[str, StageParams], stages: Iterable[str]) -> None:
    """Check what the parameters of `stages`, which are to run, name outside the pipeline.

    Raises:
        UserError: what is not there, one mistake a line.
    """
    mistakes = []
    for stage in stages:
        try:
            params[stage].check_paths(root)
        except UserError as error:
            mistakes.append(str(error))
    if mistakes:
        raise UserError("\n".join(mistakes))


def outdated(root: Path, stages: list[str]) -> set[str]:
    """Those of `stages` that are not known to be up to date: they or something they read from changed.

    Raises:
        UserError: another DVC process writes in this workspace.
    """
    from dvc.lock import LockError

    repair_dvc_lock(root)
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
