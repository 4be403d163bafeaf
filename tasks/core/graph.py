"""The graph, read from dvc.yaml by DVC itself: stages, edges, paths, hints and content hashes."""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError


@dataclass(frozen=True)
class Node:
    """One stage of dvc.yaml.

    Attributes:
        inputs: data dependencies, last part of the path (last two where several share it) → absolute path.
        outputs: paths of outputs and metrics, relative to the root.
        metrics: paths of its declared metrics, relative to the root.
        upstream: names of the stages whose outputs it reads.
        settings: keys of other stages' blocks of params.yaml that it reads too, dotted.
        meta: the stage's free-form `meta:` (retries, timeout_s, ...).
    """

    name: str
    cmd: str
    inputs: dict[str, Path]
    outputs: tuple[str, ...]
    upstream: tuple[str, ...]
    settings: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()


def open_repo(root: Path) -> Any:
    """The DVC repository at `root`.

    Raises:
        UserError: there is none.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        return Repo(str(root), _wait_for_lock=True)  # of the command line: --wait-for-lock
    except DvcException as error:
        raise UserError(f"{root}: {error}. Run this in the root of the project.") from None


@lru_cache(maxsize=4)
def load_graph(root: Path) -> dict[str, Node]:
    """Every stage of `root`/dvc.yaml, each after the stages it reads from.

    Raises:
        UserError: dvc.yaml is invalid.
    """
    import networkx
    from dvc.exceptions import DvcException

    with open_repo(root) as repo:
        stages = declared_stages(repo)
        try:
            # Edges point from a stage to what it reads. What `dvc add` tracks is a node too, but none of ours.
            graph = repo.index.graph.subgraph(stages)
        except DvcException as error:
            raise UserError(f"dvc.yaml: {error}") from None
        order = list(networkx.lexicographical_topological_sort(graph.reverse(), key=lambda s: s.name))
        return {
            stage.name: Node(
                name=stage.name,
                cmd=stage.cmd,
                inputs=_inputs(root, stage),
                outputs=tuple(out.def_path for out in stage.outs),
                upstream=tuple(sorted(reads.name for reads in graph.successors(stage))),
                settings=tuple(sorted(key for dep in _params(stage) for key in dep.params if key != stage.name)),
                meta=dict(stage.meta or {}),
                metrics=tuple(out.def_path for out in stage.outs if out.metric),
            )
            for stage in order
        }


def declared_stages(repo: Any) -> list[Any]:
    """The stages of dvc.yaml with what dvc.lock has of them; without the `.dvc` files, which have no name and no command.

    Waits while a DVC writes dvc.lock: it does so in place, and who reads meanwhile finds an empty file.

    Raises:
        UserError: dvc.yaml or dvc.lock cannot be read.
    """
    from dvc.exceptions import DvcException
    from dvc.stage import PipelineStage

    try:
        with repo.lock:
            return [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
    except DvcException as error:
        raise UserError(f"dvc.yaml: {error}") from None


def _inputs(root: Path, stage: Any) -> dict[str, Path]:
    paths = [Path(dep.fs_path) for dep in stage.deps if dep.protocol == "local" and _is_data(dep)]
    last = [path.name for path in paths]
    return {path.name if last.count(path.name) == 1 else f"{path.parent.name}/{path.name}": path for path in paths}


def _params(stage: Any) -> list[Any]:
    from dvc.dependency.param import ParamsDependency

    return [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]


def _is_data(dep: Any) -> bool:
    from dvc.dependency.param import ParamsDependency

    return not isinstance(dep, ParamsDependency) and not dep.def_path.startswith(("tasks/", "tasks\\"))


def load_stage(root: Path, name: str) -> Node:
    """One stage.

    Raises:
        UserError: dvc.yaml has no such stage.
    """
    nodes = load_graph(root)
    if name not in nodes:
        raise UserError(f"dvc.yaml: no stage named {name!r}. Stages: {', '.join(nodes)}")
    return nodes[name]


def require_inputs(root: Path, node: Node) -> None:
    """Check that all that a stage reads is there.

    Raises:
        UserError: names what is missing and how to make it.
    """
    missing = [str(path.relative_to(root)) for path in node.inputs.values() if not path.exists()]
    if missing:
        raise UserError(
            f"{node.name}: {', '.join(missing)} is missing. Make it with `dvc repro {node.name}`, which runs what "
            "comes before, or fetch it with `dvc pull`."
        )


def dependency_hashes(root: Path, name: str) -> dict[str, str]:
    """DVC's content hashes (md5) of a stage's dependencies, by path; unchanged files are looked up, not read again.

    Keys of other stages' blocks stand among them by name, with their values as JSON.
    """
    with open_repo(root) as repo:
        stage = next(stage for stage in declared_stages(repo) if stage.name == name)
        values = [dep.read_params() for dep in _params(stage)]
    return _hashes(root, name, "deps") | _foreign_params(name, values)


def output_hashes(root: Path, name: str) -> dict[str, str]:
    """DVC's content hashes (md5) of a stage's outputs in the workspace, by path."""
    return _hashes(root, name, "outs")


def folder_hash(root: Path, folder: Path) -> str:
    """DVC's content hash (md5) of a folder, also of one inside an output, as a stage that reads it alone would lock it."""
    from dvc.fs import localfs
    from dvc_data.hashfile.build import build

    with open_repo(root) as repo:
        _, _, found = build(repo.cache.local, str(folder), localfs, "md5", ignore=repo.dvcignore, dry_run=True)
        return str(found.hash_info.value)


def _hashes(root: Path, name: str, side: str) -> dict[str, str]:
    from dvc.dependency.param import ParamsDependency

    with open_repo(root) as repo:
        stage = next(stage for stage in declared_stages(repo) if stage.name == name)
        items = [item for item in getattr(stage, side) if not isinstance(item, ParamsDependency)]
        return {item.def_path: item.get_hash().value for item in items if item.exists}


def locked_hashes(root: Path, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """The hashes of dependencies and outputs that dvc.lock holds for a stage; empty where it holds none."""
    with open_repo(root) as repo:
        stage = next(stage for stage in declared_stages(repo) if stage.name == name)

        def known(items: Any) -> dict[str, str]:
            return {i.def_path: i.hash_info.value for i in items if i.hash_info and i.hash_info.name != "params"}

        values = [dep.hash_info.value or {} for dep in _params(stage) if dep.hash_info]
        return known(stage.deps) | _foreign_params(name, values), known(stage.outs)


def _foreign_params(stage: str, values: list[dict[str, Any]]) -> dict[str, str]:
    return {key: json.dumps(value) for found in values for key, value in found.items() if key != stage}


def ancestors(root: Path, name: str) -> list[str]:
    """The stages that a stage directly or indirectly reads from, in the order of the graph."""
    nodes = load_graph(root)
    wanted = {name}
    for node in reversed(nodes.values()):
        if node.name in wanted:
            wanted.update(node.upstream)
    return [stage for stage in nodes if stage in wanted and stage != name]


def descendants(root: Path, name: str) -> list[str]:
    """The stages that directly or indirectly read from a stage, in the order of the graph."""
    nodes = load_graph(root)
    reached = {name}
    for node in nodes.values():
        if reached.intersection(node.upstream):
            reached.add(node.name)
    return [stage for stage in nodes if stage in reached and stage != name]
