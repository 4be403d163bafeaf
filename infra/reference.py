"""Write docs/reference.md: every parameter of every block, from the models that check them, and every target of the Makefile.

`make docs` runs it. A test compares the page with what the models say.
"""

import html
import json
import re
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.release.rules import Rules
from tasks.core.execution import Execution
from tasks.core.graph import Node, load_graph
from tasks.core.params import params_model, read_yaml
from tasks.scrape.sources import Source

PAGE = Path("docs/reference.md")
HEAD = """# Reference

Every key of every block, as the models say that check `params.yaml` before anything runs. An unknown key, or a value of another type
or out of bounds, is an error that names the key and what is allowed. This page is made by `make docs`.

"""
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "{} or more",
    "maxItems": "at most {}",
    "minLength": "{} or more characters",
    "maxLength": "at most {} characters",
    "pattern": "matching {}",
}
NAMES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
LONGEST = 120
"""Characters of a default that is shown; of a longer one params.yaml has the text."""
Schema = dict[str, Any]


def code(text: str) -> str:
    """`text` as code that may stand in the cell of a table."""
    return f"`{text}`" if not re.search(r"[|`<>\\]", text) else f"<code>{_escaped(text)}</code>"


def _escaped(text: str) -> str:
    escaped = html.escape(text, quote=False)
    return re.sub(r"[|`*_\\]", lambda found: f"&#{ord(found.group())};", escaped)


def _prose(text: str) -> str:
    """A description within a cell: what is not code has no marks."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(code(part[1:-1]) if part.startswith("`") else _plain(part) for part in parts)


def _plain(text: str) -> str:
    return re.sub(r"[|*\\]", lambda found: f"&#{ord(found.group())};", html.escape(text, quote=False))


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def type_of(node: Schema, names: dict[str, str]) -> str:
    """The type and the bounds that a node of a JSON schema has, in words; `names`: definition → what to call it."""
    if "$ref" in node:
        return names[node["$ref"].rsplit("/", 1)[-1]]
    if options := node.get("anyOf", node.get("oneOf")):
        return " or ".join(dict.fromkeys(type_of(option, names) for option in options))
    if "const" in node:
        return code(str(node["const"]))
    if "enum" in node:
        return ", ".join(code(str(value)) for value in node["enum"])
    bounds = [form.format(_bound(node[key])) for key, form in BOUNDS.items() if key in node]
    between = " " if node.get("type") in ("integer", "number") else ", "
    return _kind(node, names) + between * bool(bounds) + ", ".join(bounds)


def _bound(value: Any) -> str:
    return code(value) if isinstance(value, str) else _number(value)


def _kind(node: Schema, names: dict[str, str]) -> str:
    match node.get("type"):
        case "array":
            return f"list of {type_of(node.get('items', {}), names)}"
        case "object":
            inner = node.get("additionalProperties")
            return f"mapping of names to {type_of(inner, names)}" if isinstance(inner, dict) else "mapping"
        case kind:
            return NAMES.get(str(kind), "anything")


def _default(key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "that of its keys"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return code(text) if len(text) <= LONGEST else f"{len(value)} {key}, see `params.yaml`"


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type speaks of, in their order."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    inner = get_args(annotation)
    for part in inner[:1] if get_origin(annotation) is Annotated else inner:
        yield from models_in(part)


def table(model: type[BaseModel], names: dict[str, str], order: Iterable[str] = ()) -> str:
    """A row for each key of a model: name, type and bounds, default, what it is for; in the order of params.yaml."""
    schema = model.model_json_schema()
    lines = ["| key | type, bounds | default | what it is for |", "| --- | --- | --- | --- |"]
    for key in sorted(model.model_fields, key=_place(list(order))):
        field, node = model.model_fields[key], schema["properties"][key]
        cells = code(key), type_of(node, names), _default(key, field)
        lines.append(f"| {' | '.join(cells)} | {_prose(_description(model, key))} |")
    return "\n".join(lines) + "\n"


def _place(order: list[str]) -> Callable[[str], int]:
    return lambda key: order.index(key) if key in order else len(order)


def _description(model: type[BaseModel], key: str) -> str:
    """What the model says of a key, or the one that it is made from."""
    for each in model.__mro__:
        field = getattr(each, "model_fields", {}).get(key)
        if field is not None and field.description:
            return str(field.description)
    return "What makes it a source of this kind." if key == "kind" else ""


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _link(title: str) -> str:
    return f"[{title}](#{anchor(title)})"


def anchor(title: str) -> str:
    """The anchor that GitHub and MkDocs give a heading."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.lower()))


def section(title: str, model: type[BaseModel], level: int, about: str = "", order: Iterable[str] = ()) -> str:
    """A heading with the model's keys, and below it those of the models that they hold."""
    inner: dict[str, type[BaseModel]] = {}
    names: dict[str, str] = {}
    for key, field in model.model_fields.items():
        found = list(models_in(field.annotation))
        for each in found:
            if each in SOURCES.values():
                names[each.__name__] = _link("sources")
            else:
                inner[f"{title}.{key}"] = each
                names[each.__name__] = _link(f"{title}.{key}")
    text = f"{'#' * level} {title}\n\n{_prose(_summary(model))}{about}\n\n{table(model, names, order)}\n"
    return text + "".join(section(name, each, level + 1) for name, each in inner.items())


SOURCES = {each.model_fields["kind"].default: each for each in models_in(Source)}
"""Kind to model."""


def _about(node: Node, root: Path) -> str:
    """What a stage reads and writes, of dvc.yaml."""
    read = [code(str(path.relative_to(root))) for path in node.inputs.values()]
    reads = f" Reads {', '.join(read)}." if read else ""
    settings = f" Heeds {', '.join(code(key) for key in node.settings)}." if node.settings else ""
    return f"{reads}{settings} Writes {', '.join(code(path) for path in node.outputs)}."


def commands(makefile: str) -> str:
    """A row for each target that explains itself."""
    found = re.findall(r"^([a-z-]+):.*?## (.*)$", makefile, re.MULTILINE)
    rows = "".join(f"| {code(f'make {target}')} | {_prose(what)} |\n" for target, what in found)
    return f"## Commands\n\n| command | what it does |\n| --- | --- |\n{rows}"


def page(root: Path) -> str:
    """The whole page for the project in `root`."""
    parts, blocks = [HEAD], read_yaml(root / "params.yaml")
    for name, node in load_graph(root).items():
        parts.append(section(name, params_model(name), 2, _about(node, root), blocks.get(name) or ()))
        if name == "scrape":
            parts.append("### Sources\n\nAn item of `scrape.sources` has the keys of its kind.\n\n")
            parts += [section(f"Source {kind}", model, 4) for kind, model in SOURCES.items()]
    parts.append(section("execution.yaml", Execution, 2, " It is no dependency of any stage."))
    parts.append(section("release.yaml", Rules, 2, " What it holds a model against: [release](release.md)."))
    parts.append(commands((root / "Makefile").read_text(encoding="utf-8")))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(Path.cwd()), encoding="utf-8")
