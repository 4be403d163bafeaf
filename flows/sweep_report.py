"""The page of a sweep: a table of its points, the best first, and the loss over tokens, a line a size; readable offline."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from flows.param_overrides import replace_file
from tasks.report.charts import Series, line_chart
from tasks.report.units import number

Rows = Sequence[Mapping[str, Any]]
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:980px;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid #dde2e8}"
    "svg{max-width:620px;width:100%}.grid{stroke:#dde2e8}.tick,.axis{fill:#5b6675;font-size:12px}.line{fill:none;stroke-width:2}"
    + "".join(
        f".line.c{n}{{stroke:{colour}}}.dot.c{n},.key.c{n}{{fill:{colour}}}"
        for n, colour in enumerate(("#1f6f8b", "#c8553d", "#6a8d3f", "#8a5aa0", "#b08b2e", "#4c6b5f"))
    )
)
MEASURED = ("parameters", "tokens", "flops", "bits_per_byte")


def write_page(path: Path, name: str, rows: Rows) -> Path:
    """Write the page; returns its path."""
    keys = list(dict.fromkeys(key for row in rows for key in row["overrides"]))
    varied = [key for key in keys if len({str(row["overrides"].get(key)) for row in rows}) > 1]
    trained = [row for row in rows if row.get("bits_per_byte") is not None]
    shown = sorted(trained, key=lambda row: float(row["bits_per_byte"])) or rows
    columns = MEASURED if trained else list(dict.fromkeys(name for row in rows for name in row["measured"]))
    head = "".join(f"<th>{escape(key)}</th>" for key in (*varied, *columns))
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(row, varied, columns))}</tr>\n" for row in shown
    )
    chart = line_chart(_series(trained), "million tokens", "bits per byte") if trained else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch()
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(name)}</title><style>{STYLE}</style>\n'
        f"<h1>{escape(name)}</h1>\n<p>{len(rows)} points{', the best first' if trained else ''}.</p>\n"
        f"{chart}\n<table><tr>{head}</tr>\n{body}</table></html>\n"
    )
    replace_file(path, text)
    return path


def _size(row: Mapping[str, Any]) -> int:
    return int(row.get("blocks") or 0) + int(row.get("head") or 0)


def _cells(row: Mapping[str, Any], varied: Sequence[str], columns: Sequence[str]) -> list[str]:
    measured = {"parameters": _size(row), **row, **row["measured"]}
    return [
        *(str(row["overrides"].get(key, "")) for key in varied),
        *(number(measured.get(column)) for column in columns),
    ]


def _series(rows: Rows) -> list[Series]:
    """A line a size; of one size and amount of tokens the best recipe."""
    sizes: dict[int, dict[int, float]] = defaultdict(dict)
    for row in rows:
        best = sizes[_size(row)]
        best[row["tokens"]] = min(best.get(row["tokens"], float("inf")), row["bits_per_byte"])
    return [
        (f"{size / 1e6:.2f} M", [tokens / 1e6 for tokens in sorted(points)], [points[t] for t in sorted(points)])
        for size, points in sorted(sizes.items())
    ]
