"""Charts as inline SVG, drawn from numbers alone: no script, no font, no network, the same bytes every time.

Colours and type are CSS classes of the page that holds the chart.
"""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 260, 56, 34, 12, 14

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
    """Horizontal bars: name, length, and the text written at the bar's end."""
    row, name_width = 24, 150
    longest = max((value for _, value, _ in bars), default=0) or 1
    text_width = 20 + 8 * max((len(text) for _, _, text in bars), default=0)  # a generous width of a letter
    height = row * len(bars) + 4
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img">']
    for number, (name, value, text) in enumerate(bars):
        y, width = number * row + 3, (WIDTH - name_width - text_width) * value / longest
        parts.append(f'<text class="name" x="{name_width - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="bar" x="{name_width}" y="{y}" width="{max(width, 1):.1f}" height="16" rx="2"/>')
        parts.append(f'<text class="tick" x="{name_width + width + 6:.1f}" y="{y + 13}">{escape(text)}</text>')
    return "".join(parts) + "</svg>"


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from at or below `low` to at or above `high`."""
    if high <= low:
        high = low + (abs(low) or 1.0) * 0.1
    raw = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]
