"""The learning rate as a function of the step."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.pretrain.params import PlannedParams


def learning_rate(params: "PlannedParams", step: int) -> float:
    """The rate of step `step` (from 0): linear warm-up to the peak, then down to `final_rate` of it by `schedule`.

    The first step has a share of the peak, never 0. wsd: stable, then a linear decay (MiniCPM, arXiv:2404.06395); cosine:
    Loshchilov & Hutter 2017, arXiv:1608.03983; linear: from the peak on.
    """
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / params.warmup_steps
    if params.schedule == "wsd":
        left = (params.steps - step) / max(params.decay_steps, 1)
    else:
        left = (params.steps - step) / max(params.steps - params.warmup_steps, 1)
    share = min(1.0, left)
    if params.schedule == "cosine":
        share = 0.5 * (1 - math.cos(math.pi * share))
    return params.learning_rate * (params.final_rate + (1 - params.final_rate) * share)
