"""What was planned and what came of it, for the report: predicted beside achieved, the shape, memory, devices, warnings."""

from collections.abc import Mapping
from typing import Any

GIB = float(1 << 30)
NAMES = {
    "layers": "layers",
    "hidden": "width",
    "heads": "heads",
    "kv_heads": "heads of keys and values",
    "intermediate": "feed-forward width",
    "global_batch_tokens": "tokens of a step",
    "steps": "steps",
    "warmup_steps": "of which warm-up",
    "learning_rate": "peak learning rate",
}


def plan_section(plan: Mapping[str, Any], pretrain: Mapping[str, Any], decoder: bool = True) -> dict[str, Any] | None:
    """What the template shows of plan.json beside what pretrain measured; None where nothing was planned.

    Bits per byte are predicted for a `decoder`; those that pretrain measured of another are of hidden tokens, and do not compare.
    """
    if not plan.get("values"):
        return None
    run, overrides = plan["run"], plan.get("overrides")
    own = overrides["given_and_planned"] if overrides else {}
    return {
        "law": plan["law"]["source"],
        "budget": plan["budget"],
        "compared": _compared(run, pretrain, decoder),
        "shape": [
            {"name": NAMES[key], "value": plan["values"][key], "planned": own[key][1] if key in own else None}
            for key in NAMES
            if key in plan["values"]
        ],
        "cost": overrides and overrides["of_law"] and overrides["cost"],
        "unit": plan["law"]["unit"],
        "memory": [
            {key.removesuffix("_bytes"): value / GIB if key.endswith("_bytes") else value for key, value in row.items()}
            for row in plan.get("memory", {}).get("by_stage", [])
        ],
        "assumed": plan.get("memory"),
        "devices": plan.get("devices", []),
        "warnings": plan["warnings"],
    }


def _compared(run: Mapping[str, Any], pretrain: Mapping[str, Any], decoder: bool) -> list[dict[str, Any]]:
    """Rows of what was planned or predicted, and what was measured."""
    expected = run.get("expected") or {}
    rows: list[tuple[str, Any, Any, Any]] = [
        ("parameters of blocks and head", run["parameters"], None, None),  # pretrain counts all
        ("tokens", run["tokens"], None, pretrain.get("tokens")),
    ]
    if decoder and expected.get("unit") == "bits per byte":
        achieved = pretrain.get("validation_bits_per_byte")
        rows.append(("bits per byte on held-out text", expected["loss"], expected.get("interval"), achieved))
    return [
        {
            "name": name,
            "planned": planned,
            "between": "{:.3f} to {:.3f}".format(*interval) if interval else "",
            "achieved": achieved,
            "outside": bool(interval) and achieved is not None and not interval[0] <= achieved <= interval[1],
        }
        for name, planned, interval, achieved in rows
    ]
