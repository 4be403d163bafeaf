"""Overrides of parameters: dotted keys that are set in params.yaml, whose other lines stay as they are."""

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tasks.core.errors import UserError
from tasks.core.params import read_yaml
from tasks.core.secret_params import refuse_secrets


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` of the command line; the value is YAML.

    Raises:
        UserError: no `=` in it, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        refuse_secrets(text, "--param")
        raise UserError(f"--param {text}: must be KEY=VALUE, e.g. dedup.threshold=0.7")
    refuse_secrets({key: value}, "--param ")  # before it is shown or set
    try:
        return key, YAML(typ="safe").load(value)
    except YAMLError as error:
        raise UserError(f"--param {text}: the value is not valid YAML: {' '.join(str(error).split())}") from None


def write_overrides(path: Path, params: dict[str, Any]) -> None:
    """Set the dotted keys of `params` in the file `path`. As `dvc exp run -S`, it edits the file.

    Raises:
        UserError: as `edited_yaml`; the file is then untouched.
    """
    if not params:
        return
    replace_file(path, edited_yaml(path, params))


def replace_file(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the permissions that it has."""
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(text, encoding="utf-8")
    shutil.copymode(path, beside)
    beside.replace(path)


def edited_yaml(path: Path, params: dict[str, Any]) -> str:
    """The text of the YAML file `path` with the dotted keys of `params` set: the lines of other keys stay byte for byte.

    Raises:
        UserError: it is no YAML, or a key lies below something that is no block.
    """
    read_yaml(path)  # complains of what is no YAML
    text = path.read_text(encoding="utf-8")
    for key, value in params.items():
        text = _set(text, key, value)
    return text


def _set(text: str, key: str, value: Any) -> str:
    node = YAML(typ="safe", pure=True).compose(text)
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, MappingNode):
            raise UserError(f"params: {key}: {parts[depth - 1]} is no block of params.yaml")
        pair = next((pair for pair in node.value if pair[0].value == part), None)
        rest = parts[depth + 1 :]
        if pair is None:
            return _added(text, node, part, _nested(rest, value))
        name, inner = pair
        if not rest or _is_null(inner) or (isinstance(inner, MappingNode) and not inner.value):
            return _replaced(text, name, inner, _nested(rest, value), bool(node.flow_style))
        node = inner
    raise UserError(f"params: {key!r} names no key")


def _nested(parts: list[str], value: Any) -> Any:
    for part in reversed(parts):
        value = {part: value}
    return value


def _is_null(node: Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _replaced(text: str, name: Node, old: Any, value: Any, inside_flow: bool) -> str:
    """Put `value` in place of the node `old`, on the line of its key; a comment on that line stays.

    A list in place of one whose items have lines of their own is written so too.
    """
    if isinstance(value, list) and value and isinstance(old, SequenceNode) and not old.flow_style:
        start, indent = text.rindex("\n", 0, old.start_mark.index) + 1, " " * old.start_mark.column
        return text[:start] + "".join(f"{indent}- {_on_one_line(v)}\n" for v in value) + text[_line_end(text, old) :]
    written = "" if value is None and not inside_flow else _on_one_line(value)
    shown = f" {written}" if written else ""
    start, end = old.start_mark.index, _end(text, old)
    beside = old.start_mark.line == name.end_mark.line and (isinstance(old, ScalarNode) or old.flow_style)
    if end > start and beside:
        return text[:start].rstrip(" ") + shown + text[end:]
    if end > start:  # it has lines of its own, below that of its key
        text = text[: text.rindex("\n", 0, start) + 1] + text[_line_end(text, old) :]
    colon = text.index(":", name.end_mark.index) + 1
    return text[:colon] + shown + text[colon:]


def _added(text: str, block: MappingNode, part: str, value: Any) -> str:
    """Put a new key at the end of a block that is not empty, or within the braces of one."""
    line = _on_one_line({part: value})[1:-1]
    if block.flow_style:
        end = block.end_mark.index - 1
        return text[:end].rstrip() + (", " if block.value else "") + line + text[end:]
    end = _line_end(text, block)
    indent = " " * block.value[0][0].start_mark.column
    return text[:end] + ("" if text[:end].endswith("\n") else "\n") + f"{indent}{line}\n" + text[end:]


def _line_end(text: str, node: Any) -> int:
    """Where the line after the last one of a node begins: its own end mark lies behind the comments that follow."""
    while not isinstance(node, ScalarNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    found = text.find("\n", _end(text, node))
    return len(text) if found < 0 else found + 1


def _end(text: str, node: Any) -> int:
    """Where the content of a scalar or a flow collection ends; a literal's end mark is behind its blank lines."""
    start = int(node.start_mark.index)
    return start + len(text[start : node.end_mark.index].rstrip())


def _on_one_line(value: Any) -> str:
    """YAML of `value`, in the form in which DVC writes it; as JSON where that does not give back the value.

    ruamel.yaml leaves strings like `https://…` without quotes, which it does not read within brackets.
    """
    yaml: Any = YAML(typ="safe", pure=True)
    stream = StringIO()
    yaml.default_flow_style, yaml.width, yaml.sort_base_mapping_type_on_output = True, 1 << 20, False
    yaml.dump(value, stream)
    forms = [stream.getvalue().strip().removesuffix("...").rstrip(), json.dumps(value, ensure_ascii=False)]
    return next((form for form in forms if "\n" not in form and _read(form) == [value]), json.dumps(value))


def _read(form: str) -> Any:
    try:
        return YAML(typ="safe").load(f"[{form}]")
    except YAMLError:
        return None
