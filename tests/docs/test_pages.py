"""Pages lead where they say: links, anchors, commands, modules, files; the README is short and leads to every page."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from tasks.core import graph
from tests.helpers.checkout import ROOT
from tests.helpers.documentation import CURRENT, PAGES, Page

README = PAGES[0]
FOLDERS = ("tasks", "flows", "tests", "docs", "infra", "benchmarks", "presets", "evaluation")
FILES = re.compile(r"(?:" + "|".join(FOLDERS) + r")/[\w./-]*|[\w-]+\.(?:yaml|toml|md|lock)")
OF_A_READER = ("tasks/x", "tasks/shout", "tests/shout", "tasks/NAME")
"""What the documentation names as an example, or lets its reader make."""


def ids(page: Page) -> str:
    return page.name


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 9_000
    led = {link.partition("#")[0] for link in README.links}
    there = {page.name for page in PAGES} - {"README.md", "docs/index.md"}
    assert there <= led


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_and_anchors_resolve(page: Page) -> None:
    anchors = {each.name: each.anchors for each in PAGES}
    for link in page.links:
        path, _, anchor = link.partition("#")
        target = os.path.normpath(Path(page.name).parent / path) if path else page.name
        assert (ROOT / target).exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors[target], f"{page.name}: {link}"


@pytest.mark.parametrize("page", CURRENT, ids=ids)
def test_commands_and_modules_exist(page: Page) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|[^\w-])make ([a-z][a-z-]*)", page.commands)) <= targets
    for module in re.findall(r"python -m ((?:flows|tasks|benchmarks|infra)\.[a-z_.]+)", page.text):
        code = ROOT / module.replace(".", "/")
        there = code.with_suffix(".py").exists() or (code / "__main__.py").exists()
        assert there or module == "tasks.shout", f"{page.name}: {module}"


@pytest.mark.parametrize("page", CURRENT, ids=ids)
def test_files_exist(page: Page) -> None:
    for code in page.code:
        if FILES.fullmatch(code) and not code.startswith(OF_A_READER):
            assert (ROOT / code).exists(), f"{page.name}: {code}"
        if found := re.fullmatch(r"data/(\w+)/.*|metrics/(\w+)\.json", code):
            assert (found[1] or found[2]) in {*graph.load_graph(ROOT), "x", "shout", "notes"}, f"{page.name}: {code}"


def test_the_tests_that_security_names_exist() -> None:
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    security = next(page for page in PAGES if page.name == "SECURITY.md")
    named = set(re.findall(r"`([\w/]*test_\w+\.py)`", security.text))
    assert named
    assert named <= there


def test_the_changelog_leads_with_this_version() -> None:
    changelog = next(page for page in PAGES if page.name == "CHANGELOG.md")
    newest = re.search(r"^## \[([\d.]+)\]", changelog.text, re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert newest is not None
    assert newest[1] == version


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_line_ends_within_its_width(page: Page) -> None:
    """But of tables, which have no line ends, and of what is made."""
    if page.name == "docs/reference.md":
        return
    for number, line in enumerate(page.prose.splitlines(), 1):
        if not line.startswith("|") and page.name != "LOG.md":
            assert len(line) <= 140, f"{page.name}: {number}"
