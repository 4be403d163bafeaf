"""Running the stage plan on counted tokens, with a fit of made-up runs."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tasks.core.params import validate
from tasks.core.paths import Inputs, Outputs, write_json
from tasks.plan.fits import Constants, Fit
from tasks.plan.params import PlanParams
from tasks.plan.stage import run

CONSTANTS = Constants(E=0.9, A=79.0, B=100.0, alpha=0.35, beta=0.37)
FIT = Fit(
    unit="bits per byte",
    counted="blocks and head",
    runs=12,
    vocabulary_size=4096,
    context_length=256,
    flops=(1e12, 4e13),
    parameters=(3e5, 6e6),
    tokens=(1e5, 2e7),
    constants=CONSTANTS,
    bootstrap=[CONSTANTS.model_copy(update={"E": 0.9 + x}) for x in (-0.02, -0.01, 0.0, 0.01, 0.02)],
    noise=0.005,
    left_out={},
    form_errors={"sum": 0.01, "joint": 0.02},
    batch_factor=2.0,
    rate_factor=1.0,
)
FITS = "tasks/plan/fits/test.json"


def pack_metrics(path: Path, tokens: int = 20_000_000, vocabulary_size: int = 4096, context_length: int = 256) -> Path:
    rows = tokens // context_length
    train = {"tokens": tokens, "rows": rows}
    write_json(path, {"vocabulary_size": vocabulary_size, "context_length": context_length, "train": train})
    return path


def planned(
    root: Path,
    settings: dict[str, Any] | None = None,
    tokens: int = 20_000_000,
    source: dict[str, Any] | None = None,
    **params: Any,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(metrics, plan.json, planned.json) of the stage in `root`; `settings`: keys of pretrain."""
    write_json(root / FITS, FIT.model_dump(mode="json"))
    (root / "tokenizer").mkdir(exist_ok=True)
    if source:
        write_json(root / "tokenizer/source.json", source)
    inputs = Inputs(
        {"tokenizer": root / "tokenizer", "pack.json": pack_metrics(root / "pack.json", tokens)},
        "plan",
        {f"pretrain.{key}": value for key, value in (settings or {}).items()},
    )
    outputs = Outputs(root / "out", root / "work")
    outputs.root.mkdir(exist_ok=True)
    checked = validate(PlanParams, {"fits": FITS} | params, "params.yaml: plan")
    with patch("tasks.plan.stage.PROJECT", root):
        metrics = run(checked, inputs, outputs)
    read = [json.loads((outputs / name).read_text()) for name in ("plan.json", "planned.json")]
    return metrics, read[0], read[1]
