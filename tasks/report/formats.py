"""The formats of the report: what quantization costs and keeps, as rows of a table and as bars."""

from collections.abc import Mapping
from typing import Any

from tasks.report.charts import bar_chart
from tasks.report.results import is_tuned
from tasks.report.units import number, size

LEAST_SHARE = 0.005
"""Types of ggml that fewer of the weights have are not named."""


def format_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The model itself, and each format beside it on the same text: `cost` is what it adds in bits per byte."""
    reference = metrics["reference"]
    name = f"{'tuned' if is_tuned(metrics) else 'base'} model, fp32"
    empty = dict.fromkeys(("cost", "distance", "same_token", "kl_divergence", "types"), "")
    rows = [{**empty, "name": name, "size": size(reference["bytes"]), "bits": reference["bits_per_byte"]}]
    for name, form in metrics["formats"].items():
        bits = form["bits_per_byte"]
        kinds = ((kind, share) for kind, share in form.get("types", {}).items() if share >= LEAST_SHARE)
        rows.append(
            {
                "name": name,
                "size": size(form["bytes"]),
                "bits": bits,
                "cost": f"{bits - reference['bits_per_byte']:+.5f}",
                "distance": number(form["max_distance"]),
                "same_token": f"{form['same_token']:.1%}" if "same_token" in form else "",
                "kl_divergence": number(form["kl_divergence"]) if "kl_divergence" in form else "",
                "types": ", ".join(f"{kind} {share:.0%}" for kind, share in kinds),
            }
        )
    return rows


def formats_chart(metrics: Mapping[str, Any]) -> str:
    """Bars of bytes, as SVG."""
    return bar_chart(
        [
            (name, form["bytes"], f"{size(form['bytes'])}, {form['bits_per_byte']:.4f} bits/byte")
            for name, form in metrics["formats"].items()
        ]
    )
