"""Filling in what params.yaml leaves null: the numbers that the stage plan has written."""

from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.params import read_yaml, validate
from tasks.pretrain.params import PlannedParams, PretrainParams

PLANNED_KEYS = (
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "intermediate",
    "steps",
    "global_batch_tokens",
    "learning_rate",
    "warmup_steps",
)


def planned_params(params: PretrainParams, plan: Path | None) -> PlannedParams:
    """The parameters with the values of `planned.json` where they are null.

    Raises:
        UserError: keys are null and there is no plan, or it was made for other numbers than these.
    """
    given = {key: value for key in PLANNED_KEYS if (value := getattr(params, key)) is not None}
    values = dict.fromkeys(PLANNED_KEYS)
    if plan is not None:
        content = read_yaml(plan)  # JSON is YAML, and this reader explains what is wrong with a file
        if content.get("given") != given:
            raise UserError(
                f"{plan}: was planned for other numbers in params.yaml: pretrain. Make it again: dvc repro plan"
            )
        values |= content["values"]
    values |= given
    needed = PLANNED_KEYS[5:] if params.start_from else PLANNED_KEYS
    if missing := [key for key in needed if values[key] is None]:
        raise UserError(
            f"params.yaml: pretrain.{{{','.join(missing)}}}: null, and there is no plan that says them. Set them, or make one: "
            "dvc repro plan"
        )
    return validate(PlannedParams, params.model_dump() | values, "params.yaml: pretrain, as planned")
