"""Write the locks from pyproject.toml: every package at one version, with the hashes of all files that were published of it.

`make lock` runs it in the environment of the tools. One lock serves every Python that `requires-python` names: what one
alone needs has a marker. Names, versions and hashes only: where packages come from is the machine's matter.
What a lock holds already stays where it still fits, unless `--upgrade` is given.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
OLDEST = re.match(r">=([0-9.]+)", PROJECT["project"]["requires-python"])[1]
GIVEN = PROJECT["tool"]["uv"]["environments"][0].split(" and ")
"""What holds wherever the project runs, so that no marker has to say it."""
HEAD = "# Made by `make lock` from pyproject.toml, installed by `make {}`.\n"
BUILD = re.compile("setuptools==")
"""What builds the packages that are published as source alone; installed before them."""
TORCH = re.compile("torch==")
OF_TORCH = re.compile(r"(nvidia-|cuda-|triton)[\w-]*==")
"""What a build of torch for GPUs brings along; another build brings others."""


def main() -> None:
    """Resolve and write."""
    upgrade = sys.argv[1:]
    kept = Path("requirements.lock"), Path("requirements-build.lock"), Path("requirements-torch.lock")
    before = "".join(path.read_text(encoding="utf-8") for path in kept if path.exists())
    found = _compile(["pyproject.toml", "--group", "dev"], before, upgrade)
    build = [block for block in found if BUILD.match(block)]
    torch = [block.split(" ")[0] + "\n" for block in found if TORCH.match(block)]
    others = [block for block in found if not any(kind.match(block) for kind in (BUILD, TORCH, OF_TORCH))]
    _write("requirements.lock", "install", others)
    _write("requirements-build.lock", "install", build)
    _write(
        "requirements-torch.lock", "install", ["# Without hashes: its build differs from machine to machine.\n", *torch]
    )
    _write("requirements-models.lock", "models", _group("models", ["--no-deps"], upgrade))
    _write("requirements-fuzz.lock", "fuzz", _group("fuzz", ["--no-deps"], upgrade))
    _write("requirements-tools.lock", "lock` and `make audit", _group("tools", [], upgrade))


def _group(name: str, options: list[str], upgrade: list[str]) -> list[str]:
    path = Path(f"requirements-{name}.lock")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    return _compile(["--group", name, *options], before, upgrade)


def _compile(wanted: list[str], before: str, upgrade: list[str]) -> list[str]:
    """The packages that are wanted, a block of lines each, sorted by name; versions that `before` has are kept."""
    beside = Path("requirements.lock.new")
    beside.write_text(before, encoding="utf-8")
    pythons = ["--universal", "--fork-strategy", "fewest", "--python-version", OLDEST]
    command = ["uv", "pip", "compile", *wanted, *upgrade, *pythons, "--generate-hashes"]
    try:
        subprocess.run([*command, "--no-header", "--no-annotate", "--quiet", "--output-file", beside], check=True)
        found = re.sub("(?<= ; ).*(?= )", lambda marker: shorter(marker[0]), beside.read_text(encoding="utf-8"))
        return re.split(r"^(?=\w)", found.replace(" ;  ", " "), flags=re.MULTILINE)[1:]
    finally:
        beside.unlink()


def shorter(marker: str) -> str:
    """The marker without what holds anyway; empty when nothing else is in it."""
    for term in GIVEN:
        marker = re.sub(rf"\b{re.escape(term)}( and |$)| and {re.escape(term)}", "", marker)
    return re.sub(r"\((\w+ \S+ '[^']*')\)", r"\1", marker)


def _write(name: str, target: str, blocks: list[str]) -> None:
    Path(name).write_text(HEAD.format(target) + "".join(blocks), encoding="utf-8")


if __name__ == "__main__":
    main()
