"""Draw the graph and the floors as SVG: `make docs` writes docs/images/*.svg from dvc.yaml and the layers in pyproject.toml.

Colours are of a middle lightness, so that the drawings can be read on white and on black. The
graph runs from top to bottom, so that it fits a telephone: what reads from the stage above has a straight arrow, what
reads from an earlier one an arrow out of that stage's lane.
"""

import html
import itertools
import tomllib
from collections.abc import Iterable
from pathlib import Path

from tasks.core.graph import load_graph

FOLDER = Path("docs/images")
FONT = 'font-family="system-ui, sans-serif"'
STAGE, FLOOR, ARROW, INK = "#3f51b5", "#00796b", "#8a8f98", "#455a64"
LANES = ("#e67e22", "#16a085", "#a569bd", "#2e86c1", "#e05a47", "#b7950b")
WIDE, HIGH, GAP, LANE = 170, 42, 20, 15
SHOWN_LATE = "report"
"""Reads of nearly every stage: its arrows are left out but for those from the last stages."""
Edge = tuple[str, str]


def edges(root: Path) -> tuple[list[str], list[Edge]]:
    """The stages in their order, and what is drawn between them."""
    nodes = load_graph(root)
    read = {upstream for node in nodes.values() if node.name != SHOWN_LATE for upstream in node.upstream}
    drawn = [
        (upstream, node.name)
        for node in nodes.values()
        for upstream in node.upstream
        if node.name != SHOWN_LATE or upstream not in read
    ]
    return list(nodes), drawn


def graph(root: Path) -> str:
    """The stages one below the other, an arrow for each edge; each arrow says what it joins (data-from, data-to)."""
    stages, drawn = edges(root)
    top = {stage: 10 + place * (HIGH + GAP) for place, stage in enumerate(stages)}
    after = dict(itertools.pairwise(stages))
    bent = {a: [b for b in stages if (a, b) in drawn and after.get(a) != b] for a in stages}
    lanes = {source: targets for source, targets in bent.items() if targets}
    parts = [_straight(a, b, top) for a, b in drawn if after.get(a) == b]
    for number, (source, targets) in enumerate(lanes.items()):
        parts += [_bent(source, target, number, len(lanes), top) for target in targets]
    parts += [_box(10, top[stage], WIDE, HIGH, STAGE, stage) for stage in stages]
    wide, high = 10 + WIDE + 24 + LANE * len(lanes) + 10, top[stages[-1]] + HIGH + 10
    return _picture(wide, high, f"The graph: {', '.join(stages)}", parts)


def _straight(source: str, target: str, top: dict[str, int]) -> str:
    x = 10 + WIDE // 2
    return _arrow(source, target, f"M{x} {top[source] + HIGH}V{top[target] - 5}", f"{x} {top[target]}", ARROW, (0, 1))


def _bent(source: str, target: str, number: int, lanes: int, top: dict[str, int]) -> str:
    """Out of a stage at its foot to the right, down its lane, and into the target above that, each lane at its own height."""
    right, lane = 10 + WIDE, 10 + WIDE + 24 + LANE * number
    begin = top[source] + HIGH - 7
    end = round(top[target] + 4 + (HIGH - 18) * number / (lanes - 1 or 1))
    path = f"M{right} {begin}H{lane - 5}q5 0 5 5V{end - 5}q0 5 -5 5H{right + 5}"
    return _arrow(source, target, path, f"{right} {end}", LANES[number % len(LANES)], (-1, 0))


def _arrow(source: str, target: str, path: str, tip: str, colour: str, way: tuple[int, int]) -> str:
    x, y = map(int, tip.split())
    dx, dy = way
    back = x - 7 * dx, y - 7 * dy
    head = f"M{x} {y}L{back[0] + 3 * dy} {back[1] + 3 * dx}L{back[0] - 3 * dy} {back[1] - 3 * dx}Z"
    return (
        f'<g data-from="{source}" data-to="{target}"><title>{source} to {target}</title>'
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/><path d="{head}" fill="{colour}"/></g>'
    )


def layers(root: Path) -> list[list[str]]:
    """The floors of tasks/ from top to bottom, as `make check` holds them (import-linter, in pyproject.toml)."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    found = next(each["layers"] for each in settings["contracts"] if each.get("containers") == ["tasks"])
    return [[name.strip() for name in layer.split("|")] for layer in found]


def floors(root: Path) -> str:
    """The floors from top to bottom, each with its folders; of the shared rooms a row imports from the rows below it."""
    stages, *rooms, frame = layers(root)
    stages = sorted(stages, key=[*load_graph(root), *stages].index)
    parts: list[str] = []
    y, wide = 10, 4 * 106 + 14
    for name, colour, rows in (
        ("flows", "#5e35b1", [["flows"]]),
        ("stages, and the server", STAGE, list(_in_rows(stages, 4))),
        ("shared rooms", FLOOR, rooms),
        ("frame", "#5d6b78", [[*frame, "core/parallel", "core/tracking"]]),
    ):
        if parts:
            parts.append(_arrow("", "", f"M{wide // 2} {y}v14", f"{wide // 2} {y + 20}", ARROW, (0, 1)))
            y += 22
        high = 34 + len(rows) * 40
        parts.append(f'<rect x="4" y="{y}" width="{wide}" height="{high}" rx="8" fill="{colour}" fill-opacity="0.2"/>')
        parts.append(_box(wide // 2 - 76, y + 5, 160, 22, INK, name))
        for row, line in enumerate(rows):
            each = (wide - 10) // len(line)
            parts += [
                _box(12 + each * at, y + 32 + row * 40, each - 6, 32, colour, folder) for at, folder in enumerate(line)
            ]
        y += high
    return _picture(
        wide + 8, y + 10, "The floors: flows, stages, shared rooms, frame; each imports from those below", parts
    )


def _in_rows(names: list[str], wide: int) -> Iterable[list[str]]:
    return (names[start : start + wide] for start in range(0, len(names), wide))


def _box(x: int, y: int, wide: int, high: int, colour: str, text: str) -> str:
    return (
        f'<g><rect x="{x}" y="{y}" width="{wide}" height="{high}" rx="6" fill="{colour}"/>'
        f'<text x="{x + wide / 2:g}" y="{y + high / 2:g}" fill="#fff" font-size="13" text-anchor="middle" '
        f'dominant-baseline="central">{html.escape(text)}</text></g>'
    )


def _picture(wide: int, high: int, title: str, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" {FONT} role="img">'
    return "\n".join([head, f"<title>{html.escape(title)}</title>", *parts, "</svg>"]) + "\n"


def drawings(root: Path) -> dict[str, str]:
    """File name to content."""
    return {"graph.svg": graph(root), "floors.svg": floors(root)}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in drawings(Path.cwd()).items():
        (FOLDER / name).write_text(content, encoding="utf-8")
