"""What both methods share: the arguments of a step, and a trainer run to its end, from where an interruption left it."""

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.core.paths import Outputs
from tasks.model.curves import read_curves
from tasks.prefer.params import PreferParams
from tasks.tuning.callback import CurveAndCheckpointCallback, last_complete_checkpoint

log = logging.getLogger(__name__)
LOGGED = {
    "tokens": "num_tokens",
    "loss": "loss",
    "learning_rate": "learning_rate",
    "gradient_norm": "grad_norm",
    "reward": "reward",
    "reward_spread": "reward_std",
    "kl": "kl",
    "reply_tokens": "completions/mean_length",
    "groups_without_spread": "frac_reward_zero_std",
    "margin": "rewards/margins",
    "accuracy": "rewards/accuracies",
    "chosen_logp": "logps/chosen",
    "rejected_logp": "logps/rejected",
}
"""A column of the curve → what TRL logs it as."""
COLUMNS = ("step", *LOGGED)
"""Of `curves.csv`, a row a step; what the method has not is empty.

grpo: mean and spread of the rewards, KL from the tuned model (nats a token), tokens of a reply, share of the groups that all
earned the same. dpo: margin of the implicit rewards, share of the pairs that they put in order, log-probabilities of the sides.
"""


def batch_settings(params: PreferParams) -> dict[str, Any]:
    """Arguments of a trainer that both methods have from the parameters."""
    at_a_time = params.micro_batch or params.together
    return {
        "per_device_train_batch_size": at_a_time,
        "gradient_accumulation_steps": params.together // at_a_time,
        "max_grad_norm": params.gradient_clipping,
        "bf16": params.precision == "bf16",
        "seed": params.seed,
    }


def train(
    trainer: Any, steps: int, outputs: Outputs, shown: str, tokens: Sequence[int] | None = None
) -> tuple[Any, list[dict[str, str]]]:
    """Run to the end, from the last whole checkpoint if there is one; the model, and the curve with `shown` in the progress.

    `tokens`: how many were seen after each step; None: as TRL counts them.
    """

    def row(step: int, logged: Mapping[str, float]) -> dict[str, float | int | None]:
        values: dict[str, float | int | None] = {
            column: float(logged[name]) if name in logged else None for column, name in LOGGED.items()
        }
        return {"step": step, **values, "tokens": tokens[step - 1] if tokens else int(logged["num_tokens"])}

    curves = outputs / "curves.csv"
    trainer.add_callback(CurveAndCheckpointCallback("prefer", curves, outputs.work, steps, COLUMNS, row, shown))
    checkpoint = last_complete_checkpoint(outputs.work)
    if checkpoint:
        log.info("prefer: continuing after step %s", checkpoint.name.rpartition("-")[2])
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # which TRL asks each step
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    outputs.timings["train_seconds"] = time.monotonic() - started
    return trainer.accelerator.unwrap_model(trainer.model), read_curves(curves)
