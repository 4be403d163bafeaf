"""What is drawn is the graph, the floors are the folders, and the reference is the models'."""

import itertools
import re
from xml.etree import ElementTree

import pytest

from infra import drawings, reference
from tasks.core import graph
from tests.helpers.checkout import ROOT
from tests.helpers.documentation import PAGES

README = PAGES[0]
REAL = {(upstream, node.name) for node in graph.load_graph(ROOT).values() for upstream in node.upstream}


def by_mermaid() -> set[tuple[str, str]]:
    drawing = next(block for language, block in README.blocks if language == "mermaid")
    chains = [line.split("-->") for line in drawing.splitlines() if "-->" in line]
    return {(a.strip(), b.strip()) for chain in chains for a, b in itertools.pairwise(chain)}


def by_svg() -> set[tuple[str, str]]:
    root = ElementTree.parse(ROOT / "docs/images/graph.svg").getroot()  # noqa: S314 - the project's own
    arrows = [group for group in root.iter("{http://www.w3.org/2000/svg}g") if group.get("data-from")]
    boxes = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert boxes == set(graph.load_graph(ROOT))
    return {(group.attrib["data-from"], group.attrib["data-to"]) for group in arrows}


@pytest.mark.parametrize("drawn", [by_mermaid, by_svg])
def test_the_drawing_is_the_graph(drawn) -> None:  # type: ignore[no-untyped-def]
    # report reads the metrics of every stage; the drawing shows it after the last ones only
    assert drawn() - REAL == set()
    assert {edge for edge in REAL - drawn() if edge[1] != "report"} == set()
    assert any(edge[1] == "report" for edge in drawn())


@pytest.mark.parametrize("name", ["graph.svg", "floors.svg"])
def test_the_drawings_are_up_to_date(name: str) -> None:
    committed = (ROOT / "docs/images" / name).read_text(encoding="utf-8")
    assert committed == drawings.drawings(ROOT)[name], "make docs draws them anew"


def test_the_reference_is_the_models() -> None:
    committed = (ROOT / reference.PAGE).read_text(encoding="utf-8")
    assert committed == reference.page(ROOT), "make docs writes it anew"


def test_the_floors_hold_every_folder_of_tasks() -> None:
    drawn = (ROOT / "docs/images/floors.svg").read_text(encoding="utf-8")
    for folder in {path.parent.name for path in (ROOT / "tasks").glob("*/__init__.py")}:
        assert re.search(rf">{folder}<", drawn), folder


def test_every_room_is_explained() -> None:
    text = next(page for page in PAGES if page.name == "docs/architecture.md").text
    rooms = {path.parent.name for path in (ROOT / "tasks").glob("*/__init__.py")} - set(graph.load_graph(ROOT))
    assert {f"`tasks/{room}/`" for room in rooms} <= set(re.findall(r"`tasks/\w+/`", text))
