"""What curation found, for the report: the funnel, duplicates, scores with thresholds, measured precision, the mixture.

Each function takes a stage's metrics and returns what the template shows; what was not measured is empty, and not shown.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any

from markupsafe import Markup

from tasks.report.charts import histogram

Metrics = Mapping[str, Any]
FILTERING_STAGES = ("clean", "dedup", "decontaminate")
SIMILARITY_EDGES = [n / 20 for n in range(21)]
"""Borders of the bins of dedup's similarity_histogram, which names each by its lower one."""
HISTOGRAM_KEYS = {"edges", "counts", "threshold"}


def funnel(metrics: Metrics) -> list[dict[str, Any]]:
    """Of each filtering stage: documents and bytes of text in and out, the share kept, and the tokens that are left.

    Bytes and tokens are None where they were not measured; tokens are estimated from the bytes per token of each source.
    """
    rows = []
    for stage in FILTERING_STAGES:
        found, before, after = metrics[stage], metrics[stage]["documents_in"], metrics[stage]["documents_out"]
        rows.append(
            {
                "stage": stage,
                "before": before,
                "after": after,
                "removed": before - after,
                "kept": f"{after / before:.1%}" if before else "–",
                "bytes_in": sum(_by_source(found, "bytes_in").values()) or None,
                "bytes_out": sum(_by_source(found, "bytes_out").values()) or None,
                "tokens": _estimated_tokens(_by_source(found, "bytes_out"), metrics["tokenizer"]),
            }
        )
    return rows


def _by_source(metrics: Metrics, key: str) -> dict[str, int]:
    return {source: counts[key] for source, counts in metrics.get("sources", {}).items() if key in counts}


def _estimated_tokens(sizes: dict[str, int], tokenizer: Metrics) -> int | None:
    rates: dict[str, float] = {
        source: tokenizer["sources"].get(source, tokenizer["train"])["bytes_per_token"] for source in sizes
    }
    return round(sum(sizes[s] / rates[s] for s in sizes)) if sizes and all(rates.values()) else None


def clusters(dedup: Metrics, largest: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The largest clusters, the largest first; `largest` tells url and title of the documents that were kept."""
    about = {row["id"]: row for row in largest}
    rows = [
        {"id": name, **found, "url": about.get(name, {}).get("url"), "title": about.get(name, {}).get("title")}
        for name, found in dedup.get("largest_clusters", {}).items()
    ]
    return sorted(rows, key=lambda row: (-row["documents"], row["id"]))


def similarities(dedup: Metrics) -> dict[str, Any] | None:
    """How alike removed documents and those kept in their place are, where that was measured."""
    counted = dedup.get("similarity_histogram")
    if not counted:
        return None
    counts = [counted.get(f"{edge:.2f}", 0) for edge in SIMILARITY_EDGES[:-1]]
    marks = [(value, f"{reason}: {value:g}") for reason, value in sorted(dedup.get("thresholds", {}).items())]
    return _drawn(SIMILARITY_EDGES, counts, marks, "similarity")


def overlap(dedup: Metrics) -> dict[str, Any] | None:
    """Who repeats whom: a row a source of removed documents, a column a source of the documents kept in their place."""
    matrix: Mapping[str, Mapping[str, int]] = dedup.get("overlap", {})
    columns = sorted({kept for row in matrix.values() for kept in row})
    most = max((count for row in matrix.values() for count in row.values()), default=0)
    rows = []
    for source, row in matrix.items():
        sizes = dedup["sources"][source]
        removed = sizes["documents_in"] - sizes["documents_out"]
        # The root keeps a few duplicates between sources visible beside the many within one.
        cells = [{"count": row.get(kept, 0), "heat": f"{sqrt(row.get(kept, 0) / most):.2f}"} for kept in columns]
        share = f"{removed / sizes['documents_in']:.1%}"
        rows.append({"source": source, "cells": cells, "removed": removed, "share": share})
    return {"columns": columns, "rows": rows} if rows else None


def scores(clean: Metrics) -> list[dict[str, Any]]:
    """Each score: its histogram, how many documents had it and how many it removed, and what training measured."""
    shown = []
    for name, score in sorted(clean.get("scores", {}).items()):
        if not sum(score.get("counts", ())):
            continue
        low, high = (score.get("threshold", {}).get(end) for end in ("min", "max"))
        marks = [(low, f"at least {low:g}")] if low is not None else []
        marks += [(high, f"at most {high:g}")] if high is not None else []
        shown.append(
            {
                "name": name,
                "documents": sum(score["counts"]),
                "removed": clean["removed"].get(name, 0),
                "thresholds": [text for _, text in marks],
                "training": {key.replace("_", " "): value for key, value in score.items() if key not in HISTOGRAM_KEYS},
                **_drawn(score["edges"], score["counts"], marks, name, low, high),
            }
        )
    return shown


def precision(clean: Metrics) -> list[dict[str, Any]]:
    """Each reason that people have labelled removals of: which share they would have removed too."""
    return [
        {"reason": reason, "removed": clean["removed"].get(reason, 0), **measured}
        for reason, measured in sorted(clean.get("review", {}).items())
    ]


def mixture(pack: Metrics) -> dict[str, Any] | None:
    """What each source gives to training, where a mixture was asked for."""
    if "mixture" not in pack:
        return None
    sources = pack["mixture"]["sources"]
    whole = sum(source["given"] for source in sources.values()) or 1
    rows = [{"name": name, **source, "share": f"{source['given'] / whole:.1%}"} for name, source in sources.items()]
    return {"unit": pack["mixture"]["unit"], "rows": rows}


def _drawn(
    edges: Sequence[float],
    counts: Sequence[int],
    marks: Sequence[tuple[float, str]],
    name: str,
    low: float | None = None,
    high: float | None = None,
) -> dict[str, Any]:
    """The chart, and the same numbers for a table: from the first to the last bin that holds a document or a mark."""
    used = [
        n
        for n, (count, (start, end)) in enumerate(zip(counts, pairwise(edges), strict=True))
        if count or any(start <= value < end for value, _ in marks)
    ]
    edges, counts = edges[used[0] : used[-1] + 2], counts[used[0] : used[-1] + 1]
    chart = histogram(edges, counts, marks, f"{name}: documents", low, high)
    return {"chart": Markup(chart), "bins": list(zip(edges, edges[1:], counts, strict=False))}  # noqa: S704
