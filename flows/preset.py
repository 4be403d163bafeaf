"""`make preset NAME=adapt`: writes params.yaml as a preset wants it, and shows what changes. `python -m flows.preset --help`.

A preset is a file `presets/NAME.yaml` of blocks as in params.yaml; what it does not name has its default. In params.yaml
only the lines whose values differ change.
"""

import argparse
import difflib
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows import param_overrides
from tasks.core import graph
from tasks.core.errors import EXIT_USER_ERROR, UserError, missing_package
from tasks.core.params import check_params, read_yaml

FOLDER = Path("presets")
Values = dict[str, Any]


def preset_values(root: Path, name: str) -> Values:
    """Every key of params.yaml, dotted, with the value that the preset gives it.

    Raises:
        UserError: no such preset, or one whose keys or values are not those of params.yaml.
    """
    path = root / FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"{name}: no preset of that name. There are: {', '.join(preset_names(root))}")
    try:
        blocks = check_params(read_yaml(path), list(graph.load_graph(root)))
    except UserError as error:
        raise UserError(str(error).replace("params.yaml", str(FOLDER / path.name))) from None
    return {key: value for stage, block in blocks.items() for key, value in _dotted(block, stage).items()}


def preset_names(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / FOLDER).glob("*.yaml"))


def apply_preset(root: Path, name: str, force: bool) -> str:
    """Write params.yaml as the preset wants it; returns the difference as text, "" where there is none.

    Raises:
        UserError: as `preset_values`; or params.yaml holds values that neither git nor a preset knows, and not `force`.
    """
    path = root / "params.yaml"
    now, wanted = _current(root), preset_values(root, name)
    written = read_yaml(root / FOLDER / f"{name}.yaml")
    before = path.read_text(encoding="utf-8")
    after = param_overrides.edited_yaml(
        path, {key: _as_written(written, key, value) for key, value in wanted.items() if now[key] != value}
    )
    difference = "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True),
            after.splitlines(keepends=True),
            "params.yaml",
            f"params.yaml, {name}",
            n=0,
        )
    )
    if difference and not force and not _is_known(root, now):
        raise UserError(
            f"{difference}\nparams.yaml has changes of yours that are not committed, and the preset {name} would take "
            f"back those of them that are shown. Commit it first, or: make preset NAME={name} FORCE=1"
        )
    if difference:
        param_overrides.replace_file(path, after)
    return difference


def _current(root: Path) -> Values:
    blocks = check_params(read_yaml(root / "params.yaml"), list(graph.load_graph(root)))
    return {key: value for stage, block in blocks.items() for key, value in _dotted(block, stage).items()}


def _as_written(blocks: Values, key: str, value: Any) -> Any:
    """The value as the preset's file puts it, without the defaults that a source's own keys have; else `value`."""
    node: Any = blocks
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return value
        node = node[part]
    return node


def _is_known(root: Path, values: Values) -> bool:
    """Whether git has this params.yaml, or a preset gives its values, so that nothing is lost when it is replaced."""
    command = ["git", "diff", "--quiet", "HEAD", "--", "params.yaml"]
    if subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == 0:
        return True
    return any(preset_values(root, name) == values for name in preset_names(root))


def _dotted(block: BaseModel, prefix: str) -> Values:
    """The block's keys and those of the blocks in it, as JSON values; a union's members (sources, ...) count as values."""
    values: Values = {}
    for name, plain in block.model_dump(mode="json").items():
        inner = getattr(block, name)
        if isinstance(inner, BaseModel) and type(inner) is type(block).model_fields[name].annotation:
            values |= _dotted(inner, f"{prefix}.{name}")
        else:
            values[f"{prefix}.{name}"] = plain
    return values


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and write params.yaml; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.preset", description="Write params.yaml as a preset wants it."
    )
    parser.add_argument("name", nargs="?", help="a file of presets/, without .yaml; none: list them")
    parser.add_argument("--force", action="store_true", help="also over changes of yours that are not committed")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    try:
        if not options.name:
            print("\n".join(f"{name:21}{_headline(root, name)}" for name in preset_names(root)))
            return 0
        difference = apply_preset(root, options.name, options.force)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    except ImportError as error:
        print(missing_package(error), file=sys.stderr)
        return EXIT_USER_ERROR
    print(difference or f"params.yaml is as the preset {options.name} wants it already.")
    print(f"presets/{options.name}.yaml says what it wants and takes. Next: make run")
    return 0


def _headline(root: Path, name: str) -> str:
    first = (root / FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ")


if __name__ == "__main__":
    sys.exit(main())
