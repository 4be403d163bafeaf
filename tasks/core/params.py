"""Parameters: one block of `params.yaml` a stage, checked by a pydantic model before anything runs."""

import difflib
import importlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks.core.errors import UserError
from tasks.core.paths import matching_files
from tasks.core.secret_params import refuse_secrets, secret_in

P = TypeVar("P", bound=BaseModel)
YAML_VALUE_ERRORS = (TypeError, ValueError, LookupError, RecursionError)
"""What ruamel.yaml raises besides its own: for keys that are lists, bytes, dates and numbers that are none, endless nesting."""


class StageParams(BaseModel):
    """Base of every stage's parameters: immutable; an unknown key or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    same_work: ClassVar[frozenset[str]] = frozenset()
    """Keys that say how a stage comes to its result, and change it by rounding at most: unfinished work goes on with others."""

    def work_identity(self) -> dict[str, Any]:
        """What decides whose unfinished work it is."""
        return self.model_dump(exclude=set(self.same_work))

    def check_paths(self, root: Path) -> None:
        """Check what can be told at once of what they name outside params.yaml: files, hosts, packages. Nothing by default.

        Asked of the stages that are to run, before the flow starts one. Relative paths are under `root`.

        Raises:
            UserError: it is not there, or is of no use; says which key names it.
        """


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping (the reader DVC uses, so both see the same values).

    Raises:
        UserError: the file is missing, is no YAML, repeats a key, or is no mapping.
    """
    try:
        content = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Run this in the root of the project.") from None
    except (YAMLError, *YAML_VALUE_ERRORS) as error:
        told = " ".join(str(error).split())
        told = "near a secret, which does not belong there" if secret_in(told)[0] else told
        raise UserError(f"{path}: not valid YAML: {told}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a mapping of blocks, found {type(content).__name__}")
    return content


def validate(model: type[P], values: Any, where: str) -> P:
    """Check `values` against `model`. `where` leads every message, e.g. `params.yaml: dedup`.

    Raises:
        UserError: one line for each mistake, naming the key and what is allowed.
    """
    try:
        # By way of JSON: strict about types, yet a list is fine where the model says tuple.
        content = json.dumps(values if values is not None else {}, default=str).encode()
    except (TypeError, ValueError, RecursionError) as error:  # keys that are lists, what holds itself, endless nesting
        raise UserError(f"{where}: {error}") from None
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        said: dict[str, list[str]] = {}
        for problem in error.errors():
            key, message = _explain(model, problem, where)
            said.setdefault(key, []).append(message)
        # Of a union, each member complains: to the reader they are alternatives.
        raise UserError("\n".join(f"{key}: {'; or '.join(messages)}" for key, messages in said.items())) from None


MEMBER = re.compile(r"constrained-\w+|literal\[.*\]|int|float|str|bool")
"""What pydantic adds to the location of a mistake in a union: the name of the member, no key of the file."""


def _explain(model: type[BaseModel], problem: Any, where: str) -> tuple[str, str]:
    location = [str(part) for part in problem["loc"]]
    if len(location) > 1 and MEMBER.fullmatch(location[-1]):
        location.pop()
    key = where + ("" if where.endswith(": ") or not location else ".") + ".".join(location)
    if problem["type"] == "extra_forbidden":
        allowed = _keys_beside(model, problem["loc"])
        close = difflib.get_close_matches(location[-1], allowed, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        return key, f"unknown key.{hint} Allowed here: {', '.join(allowed) or 'nothing'}."
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if problem["type"] == "missing" else f", got {problem['input']!r}"
    return key, f"{message[0].lower()}{message[1:]}{given}."


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Allowed keys of the mapping that holds the last part of `location`; for a union of models, of its tagged member."""
    schema = model.model_json_schema()
    node: Any = schema
    for part in location[:-1]:
        node = _resolve(schema, node)
        if isinstance(part, int):
            node = node.get("items", {})
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        elif part in node.get("discriminator", {}).get("mapping", {}):
            node = {"$ref": node["discriminator"]["mapping"][part]}
        else:
            options = [_resolve(schema, option) for option in node.get("anyOf", [])]
            node = next((option for option in options if "properties" in option), {})
    node = _resolve(schema, node)
    for option in node.get("anyOf", []):
        if "properties" in (resolved := _resolve(schema, option)):
            node = resolved
    return list(node.get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    return schema["$defs"][reference.rsplit("/", 1)[-1]] if reference else node


def require_files(paths: Iterable[str], root: Path, where: str, globs: bool = False) -> None:
    """Check that files named in the parameters are there; of `globs`, which a path may be too, that one matches.

    Raises:
        UserError: one is not.
    """
    for path in paths:
        if not (matching_files(path, root) if globs else (root / path).is_file()):
            raise UserError(f"params.yaml: {where}: {path}: no such file under {root}")


def params_model(stage: str) -> type[StageParams]:
    """The parameters' class of a stage: what `run` of `tasks.<stage>.stage` takes as `params`."""
    module = importlib.import_module(f"tasks.{stage}.stage")
    model: type[StageParams] = get_type_hints(module.run)["params"]
    return model


def load_params(root: Path, stages: list[str]) -> dict[str, StageParams]:
    """Read and check every stage's block of `params.yaml`.

    Raises:
        UserError: every mistake in the file, one a line.
    """
    return check_params(read_yaml(root / "params.yaml"), stages)


def check_params(blocks: dict[str, Any], stages: list[str]) -> dict[str, StageParams]:
    """Check the blocks of a `params.yaml` that has been read; raises as `load_params`, of secrets before all else."""
    refuse_secrets(blocks, "params.yaml: ")
    mistakes = [
        f"params.yaml: {name}: no stage of that name. Stages: {', '.join(stages)}."
        for name in blocks
        if name not in stages
    ]
    checked: dict[str, StageParams] = {}
    for stage in stages:
        try:
            checked[stage] = validate(params_model(stage), blocks.get(stage), f"params.yaml: {stage}")
        except UserError as error:
            mistakes.append(str(error))
    if mistakes:
        raise UserError("\n".join(mistakes))
    return checked


def select_values(blocks: dict[str, StageParams], keys: Sequence[str]) -> dict[str, Any]:
    """The values of dotted keys, e.g. `quantize.formats`.

    Raises:
        UserError: a key is none of a block's; dvc.yaml names it.
    """
    values: dict[str, Any] = {}
    for key in keys:
        value: Any = blocks
        for part in key.split("."):
            value = value.get(part, _NOTHING) if isinstance(value, dict) else getattr(value, part, _NOTHING)
        if value is _NOTHING:
            raise UserError(f"dvc.yaml: {key}: params.yaml has no such key")
        values[key] = value
    return values


_NOTHING = object()
