"""The report: one page without outside references, the same bytes from the same results, readable when things are missing."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.report.charts import LEFT, RIGHT, WIDTH, bar_chart, histogram, line_chart, ticks
from tasks.report.stage import read_curve_columns, read_json, read_json_lines
from tasks.report.units import size


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1.43, 5.9), (-3, 3), (7, 7), (0, 0), (1e-6, 2e-6), (0, 5_867_743)])
def test_ticks_are_round_and_cover_the_range(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low <= high <= found[-1]
    assert 2 <= len(found) <= 9
    steps = {round((b - a) / (found[1] - found[0]), 6) for a, b in pairwise(found)}
    assert steps == {1.0}


def test_charts_escape_text_and_survive_emptiness() -> None:
    chart = line_chart([("<loss>", [0, 1, 2], [3.0, float("nan"), 1.0])], "step", "nats")
    assert "<loss>" not in chart
    assert "nan" not in chart
    assert "no points" in line_chart([("loss", [], [])], "step", "nats")
    assert "&lt;b&gt;" in bar_chart([("<b>", 1, "x")])
    assert bar_chart([]) == '<div class="bars"></div>'
    assert not re.search(r"https?://", chart)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30).filter(any), st.floats(-1, 2))
def test_histograms_draw_every_bin_in_proportion(counts: list[int], threshold: float) -> None:
    edges = [n / len(counts) for n in range(len(counts) + 1)]
    chart = histogram(edges, counts, [(threshold, "<limit>")], "score", None, threshold)
    bars = re.findall(r'<rect class="bar( away)?" x="([\d.]+)" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', chart)
    heights = [float(height) for _, _, _, height in bars]
    assert heights == pytest.approx([max(heights) * count / max(counts) for count in counts], abs=0.11)
    assert [bool(away) for away, *_ in bars] == [start >= threshold for start in edges[:-1]]
    (at,) = re.findall(r'class="mark" x1="([\d.]+)"', chart)
    left, right = (LEFT, WIDTH - RIGHT)
    assert float(at) == pytest.approx(left + (right - left) * min(1, max(0, threshold)), abs=0.06)
    label = re.search('aria-label="([^"]*)"', chart)
    assert label is not None
    assert all(f": {count:,}" in label[1] for count in counts if count)
    assert "<limit>" not in chart
    axis = re.findall(r'text-anchor="end">([\d.,]+)[kM]?</text>', chart)
    assert all("." not in tick for tick in axis) or max(counts) >= 10_000


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text('{"reply": "a\u2028b\x85c"}\n{"reply": "d"}\n', encoding="utf-8")
    assert [row["reply"] for row in read_json_lines(tmp_path / "samples.jsonl")] == ["a\u2028b\x85c", "d"]


def test_sizes() -> None:
    assert [size(n) for n in (12, 9_448_144, 1_463_296)] == ["12 bytes", "9.45 MB", "1.46 MB"]


def test_broken_inputs_are_named(tmp_path: Path) -> None:
    (tmp_path / "clean.json").write_text("{")
    with pytest.raises(UserError, match=r"clean\.json: no valid JSON"):
        read_json(tmp_path / "clean.json")
    (tmp_path / "curves.csv").write_text("step,loss,validation\n1,2.5,\n2,2.0,1.9\n")
    assert read_curve_columns(tmp_path / "curves.csv") == {
        "step": [1, 2],
        "loss": [2.5, 2.0],
        "validation": [None, 1.9],
    }
