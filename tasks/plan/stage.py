"""Plan: what to train for a budget, chosen by a scaling law before the budget is spent. It trains nothing and measures nothing."""

import logging
from pathlib import Path
from typing import Any

from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.plan.params import PlanParams

log = logging.getLogger(__name__)
PROJECT = Path(__file__).parents[2]
"""Fits lie beside the code that reads them."""


def run(params: PlanParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Plan the keys of pretrain that are null, for the text that pack counted.

    Writes `planned.json`, the values of those keys as pretrain takes them, and `plan.json`: budget, law, the run with its
    expected loss, what the user's own numbers cost, memory by ZeRO stage, the table of devices, warnings. Both depend on
    parameters, counts of tokens, the table of devices and the file of fits alone.

    Raises:
        UserError: no shape fits the numbers that are given, or there is no such file of fits.
    """
    from tasks.model.start_from import read_model_source
    from tasks.plan import describe
    from tasks.plan.given_model import continued
    from tasks.plan.planner import PLANNED_KEYS, Planner

    pretrain = {key.partition(".")[2]: value for key, value in inputs.settings.items() if key.startswith("pretrain.")}
    given = {key: pretrain[key] for key in PLANNED_KEYS if pretrain.get(key) is not None}
    source = read_model_source(inputs["tokenizer"])
    if source and source.enters == "finetune":
        log.info("plan: finetune.start_from names %s: nothing is pretrained", source.start_from)
        write_json(outputs / "planned.json", {"given": given, "values": {}})
        write_json(outputs / "plan.json", {"start_from": source.start_from})
        return {"start_from": source.start_from}
    text = describe.read_text(inputs["pack.json"])
    tied = pretrain.get("architecture.tie_embeddings") is not False
    planner = Planner(params, text, _fit(params), tied, pretrain.get("batch_schedule"))
    budget = describe.budget_flops(params)
    if source:
        planned, content = continued(planner, budget, given, pretrain, source.parameters, source.start_from)
    else:
        planned, content = describe.described(planner, budget, given, pretrain)
    write_json(outputs / "planned.json", {"given": given, "values": planned})
    write_json(outputs / "plan.json", content)
    for line in describe.lines(content):
        log.info("plan: %s", line)
    for warning in content["warnings"]:
        log.warning("plan: %s", warning)
    return describe.headline(content)


def _fit(params: PlanParams) -> Any:
    from tasks.plan.fits import read_fit

    return read_fit(PROJECT / params.fits) if params.fits and "own" in (params.law, params.recipe) else None
