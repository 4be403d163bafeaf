"""The plan where a model of somebody else is trained on: its shape is its own, and no law says its loss.

Its optimizer begins anew and its rate had come down, so the rate rises again (re-warming) and decays once more: to a smaller
peak than a new model's, for the higher it is, the more of what the model knew is lost, and the more of the text is learnt.
Mixing in old text keeps most of it (Ibrahim et al. 2024, arXiv:2403.08763; Gupta et al. 2023, arXiv:2308.04014).
"""

from collections.abc import Mapping
from typing import Any

from tasks.architectures.memory import Parameters
from tasks.plan import hardware
from tasks.plan.describe import head, short
from tasks.plan.planner import Given, Planner
from tasks.plan.recipes import porian, step_law

REPLAY = 0.05
"""Share of old text that keeps most of what a model knew."""


def continued(
    planner: Planner, budget: float, given: Given, pretrain: Mapping[str, Any], parameters: int, name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values for pretrain, and the content of plan.json, of a model `name` with as many `parameters`.

    The rate's peak is `plan.rewarm` times that of a new model of as many parameters and tokens, by Step Law (or Porian, where
    that is the recipe): rules of own runs are of small new models. `pretrain`: also optimizer.
    """
    params, text = planner.params, planner.text
    tokens = min(budget / (6 * parameters), params.max_epochs * text.row_tokens)
    size = Parameters(parameters, parameters, 0, 0)
    batch = given.get("global_batch_tokens") or planner.batch(step_law(size, tokens).batch_tokens, tokens)
    steps = given.get("steps") or planner.batches(batch).steps_for(tokens)
    tokens = planner.batches(batch).before(steps)
    rule = (porian if params.recipe == "porian" else step_law)(size, tokens)
    warmup = given.get("warmup_steps")
    values = {
        "steps": steps,
        "global_batch_tokens": batch,
        "learning_rate": given.get("learning_rate") or float(f"{params.rewarm * rule.learning_rate:.2g}"),
        "warmup_steps": min(steps, max(1, round(params.warmup_fraction * steps))) if warmup is None else warmup,
    }
    flops = 6.0 * parameters * tokens
    content = head(planner, budget) | {
        "start_from": name,
        "values": values,
        "run": {
            "parameters": parameters,
            "tokens": tokens,
            "epochs": short(tokens / text.row_tokens),
            "flops": short(flops),
            "seconds": short(hardware.seconds(flops, params.device, params.devices, params.mfu)),
            "expected": None,
        },
        "warnings": _warnings(planner, pretrain),
    }
    return values, content


def _warnings(planner: Planner, pretrain: Mapping[str, Any]) -> list[str]:
    found = []
    if not planner.text.mixed:
        found.append(
            f"pack.mixture is not set: a model that is trained on forgets what it does not see again. A share of {REPLAY:g} of "
            "general text (pack.mixture.replay) keeps most of it (arXiv:2403.08763)."
        )
    if pretrain.get("optimizer") in ("muon", "normuon"):
        found.append(
            f"pretrain.optimizer is {pretrain['optimizer']}: a model that AdamW has trained gains nothing by it "
            "(arXiv:2502.16982). Set adamw."
        )
    return found
