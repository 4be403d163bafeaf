"""Stability: which steps are spikes, and what happens with those and with numbers that are not finite."""

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.core.errors import UserError

if TYPE_CHECKING:
    from tasks.pretrain.params import PlannedParams

log = logging.getLogger(__name__)
WINDOW = 128
SIGMAS = 6.0
"""A step whose loss or gradient norm lies that many standard deviations above the mean of the last WINDOW ones is a spike, as in
OLMo-core (github.com/allenai/OLMo-core, SkipStepOptimizer)."""
ENOUGH = 32
"""With fewer steps behind it, nothing is called a spike."""


class Stability:
    """Watches loss and gradient norm; counts spikes and skipped steps. Its state is JSON."""

    def __init__(self, params: "PlannedParams") -> None:
        self.params = params
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.spikes = self.skipped = 0

    def skips(self, step: int, loss: float, norm: float, documents: Callable[[], str]) -> bool:
        """Whether step `step` (from 1) is to leave the weights alone. `documents`: those of the step, for messages.

        Raises:
            UserError: loss or gradient are not finite, and `on_not_finite` is stop.
        """
        for what, value in (("loss", loss), ("gradient's norm", norm)):
            if not math.isfinite(value):
                return self._not_finite(what, value, step, documents())
        spike = _is_spike(loss, self.losses) or _is_spike(norm, self.norms)
        self.losses, self.norms = [*self.losses, loss][-WINDOW:], [*self.norms, norm][-WINDOW:]
        if spike:
            self.spikes += 1
            skip = self.params.on_spike == "skip"
            self.skipped += skip
            log.log(
                logging.WARNING if skip else logging.INFO,
                "step %d is a spike (loss %.4g, gradient's norm %.4g)%s; %s",
                *(step, loss, norm, ", and is skipped" if skip else "", documents()),
            )
            return skip
        return False

    def _not_finite(self, what: str, value: float, step: int, documents: str) -> bool:
        if self.params.on_not_finite == "skip":
            self.skipped += 1
            log.warning("the %s is %s at step %d, which is skipped; %s", what, value, step, documents)
            return True
        raise UserError(
            f"pretrain: the {what} is {value} at step {step}: training diverged, or its text is broken ({documents}). The weights "
            f"are those of the step before. Lower pretrain.learning_rate (now {self.params.learning_rate:g}), raise "
            f"pretrain.warmup_steps (now {self.params.warmup_steps}), or set pretrain.on_not_finite: skip"
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"losses": self.losses, "norms": self.norms, "spikes": self.spikes, "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.losses, self.norms = state["losses"], state["norms"]
        self.spikes, self.skipped = state["spikes"], state["skipped"]


def _is_spike(value: float, before: list[float]) -> bool:
    if len(before) < ENOUGH:
        return False
    mean = math.fsum(before) / len(before)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in before) / (len(before) - 1))
    return value > mean + SIGMAS * deviation
