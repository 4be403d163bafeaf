"""Charts as inline SVG and HTML, drawn from numbers alone: no script, no font, no network, the same bytes every time.

Colours and type are CSS classes of the page that holds the chart.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 440, 230, 56, 34, 12, 14

Series = tuple[str, Sequence[float], Sequence[float]]
"""Name, x values, y values."""


def line_chart(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """Lines over a common x axis, e.g. loss against step; each point carries its value as a tooltip."""
    points = [(x, y) for _, xs, ys in series for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    if not points:
        return '<p class="nothing">no points</p>'
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1)
        up = (y - y_low) / ((y_high - y_low) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)}">']
    for y in y_ticks:
        _, at = place(x_low, y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in ticks(x_low, x_high):
        if x_low <= x <= x_high:
            at, _ = place(x, y_low)
            parts.append(f'<text class="tick" x="{at:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{x:g}</text>')
    for number, (name, xs, ys) in enumerate(series):
        placed = [(x, y, *place(x, y)) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
        path = " ".join(f"{a:.1f},{b:.1f}" for _, _, a, b in placed)
        parts.append(f'<polyline class="line c{number}" points="{path}"/>')
        if len(placed) <= 60:
            parts += [
                f'<circle class="dot c{number}" cx="{a:.1f}" cy="{b:.1f}" r="2.5">'
                f"<title>{escape(name)}, {escape(x_label)} {x:g}: {y:.4g}</title></circle>"
                for x, y, a, b in placed
            ]
        x_name = LEFT + 10 + 150 * number
        parts.append(f'<rect class="key c{number}" x="{x_name}" y="{TOP - 8}" width="10" height="10"/>')
        parts.append(f'<text class="tick" x="{x_name + 15}" y="{TOP + 1}">{escape(name)}</text>')
    parts.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{escape(x_label)}</text>')
    return "".join(parts) + "</svg>"


def bar_chart(bars: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars as HTML, whose text stays legible at any width: name, length, and the text beside the bar."""
    longest = max((value for _, value, _ in bars), default=0) or 1
    rows = [
        f'<span class="name">{escape(name)}</span>'
        f'<span><span class="bar" style="width: {100 * value / longest:.1f}%"></span></span>'
        f'<span class="tick">{escape(text)}</span>'
        for name, value, text in bars
    ]
    return f'<div class="bars">{"".join(rows)}</div>'


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    marks: Sequence[tuple[float, str]],
    label: str,
    low: float | None = None,
    high: float | None = None,
) -> str:
    """Bins of one width, whatever lies between their `edges` (one more than `counts`); `marks` are lines across them.

    What lies wholly below `low` or above `high` is drawn as taken away. The label tells the numbers to those who hear it.
    """
    top = 18 * len(marks) + 8
    y_ticks = ticks(0, max(counts), min(5, max(1, max(counts))))  # no more steps than documents: whole numbers
    step = (WIDTH - LEFT - RIGHT) / len(counts)

    def across(value: float) -> float:
        number = max(0, min(bisect_right(edges, value) - 1, len(counts) - 1))
        start, end = edges[number], edges[number + 1]
        return LEFT + step * (number + min(1.0, max(0.0, (value - start) / (end - start))))

    def up(count: float) -> float:
        return HEIGHT - BOTTOM - count / y_ticks[-1] * (HEIGHT - BOTTOM - top)

    bins = [(edges[n], edges[n + 1], count) for n, count in enumerate(counts)]
    said = ", ".join(f"{start:g} to {end:g}: {count:,}" for start, end, count in bins if count)
    said = "; ".join([f"{label}: {said}", *(text for _, text in marks)])
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">']
    for y in y_ticks:
        at = up(y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_short(y)}</text>')
    for number, (start, end, count) in enumerate(bins):
        away = (low is not None and end <= low) or (high is not None and start >= high)
        parts.append(
            f'<rect class="bar{" away" if away else ""}" x="{LEFT + step * number + 1:.1f}" y="{up(count):.1f}" '
            f'width="{step - 2:.1f}" height="{HEIGHT - BOTTOM - up(count):.1f}">'
            f"<title>{start:g} to {end:g}: {count:,}</title></rect>"
        )
    for number in range(0, len(edges), -(-len(counts) // 5)):
        x = LEFT + step * number
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 18}" text-anchor="middle">{_short(edges[number])}</text>'
        )
    for number, (value, text) in enumerate(marks):
        x, y = across(value), 18 * number + 14
        side, anchor = (5, "start") if x < WIDTH / 2 else (-5, "end")
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="name" x="{x + side:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>')
    parts.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{escape(label)}</text>')
    return "".join(parts) + "</svg>"


def _short(value: float) -> str:
    """A number for an axis: 0.25, 8,192, 65.5k, 1.05M."""
    if value < 10_000:
        return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
    return f"{value / 1e3:.3g}k" if value < 999_500 else f"{value / 1e6:.3g}M"


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from at or below `low` to at or above `high`."""
    if high <= low:
        high = low + (abs(low) or 1.0) * 0.1
    raw = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]
