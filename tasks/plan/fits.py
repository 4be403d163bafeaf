"""The file of own fits: what training runs of one's own say of the loss, with how much they leave open, and of batch and rate."""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.core.errors import UserError
from tasks.core.params import read_yaml, validate
from tasks.plan.laws import Counted, JointLaw, ParametricLaw

FITS_FOLDER = Path("tasks/plan/fits")
"""Where fits are committed: within the stage's code, which DVC watches, so that a new fit makes a new plan."""
OwnLaw = ParametricLaw | JointLaw
NORMAL_90 = 1.645
"""Standard deviations on either side that hold 90% of a normal distribution."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Form = Literal["sum", "joint"]
"""sum: E + A / N^alpha + B / D^beta, of `ParametricLaw`; joint: ((A / N)^(alpha / beta) + B / D)^beta, of `JointLaw`."""


class Constants(Frozen):
    """The constants of a law of either form; E is the sum's only."""

    form: Form = "sum"
    E: float = Field(0.0, ge=0)
    A: float = Field(ge=0)
    B: float = Field(ge=0)
    alpha: float = Field(gt=0)
    beta: float = Field(gt=0)

    def loss(self, parameters: float, tokens: float) -> float:
        """Predict the loss; `tokens` by their worth."""
        return self.law("blocks and head", (0.0, math.inf)).loss(parameters, tokens)

    def law(self, counted: Counted, flops_range: tuple[float, float], source: str = "", unit: str = "") -> OwnLaw:
        """The law that has these constants."""
        shared = ("own", source, self.A, self.B, self.alpha, self.beta, counted, flops_range, unit)
        return JointLaw(*shared) if self.form == "joint" else ParametricLaw(*shared, E=self.E)


class Fit(Frozen):
    """What `python -m tasks.plan.fit` writes.

    Attributes:
        bootstrap: constants fitted to runs drawn with replacement; their spread is what the runs leave open.
        noise: standard deviation of ln(loss) of the runs around the fit.
        left_out: by budget, the error of ln(loss) of its runs when they are predicted from the others.
        form_errors: the mean of that for each form of law that was tried, and for want of budgets that of all runs.
        batch_factor, rate_factor: own best runs over Step Law.
    """

    unit: str
    counted: Counted
    runs: int
    vocabulary_size: int
    context_length: int
    flops: tuple[float, float]
    parameters: tuple[float, float]
    tokens: tuple[float, float]
    constants: Constants
    bootstrap: list[Constants]
    noise: float
    left_out: dict[str, float]
    form_errors: dict[Form, float]
    batch_factor: float
    rate_factor: float

    def law(self) -> OwnLaw:
        """Make a law of it, for the planner."""
        return self.constants.law(self.counted, self.flops, f"own fit of {self.runs} runs", self.unit)

    def interval(self, parameters: float, tokens: float) -> tuple[float, float]:
        """90% of where a run's loss falls: by the spread of the bootstrap and the noise of single runs.

        `tokens`: what they are worth, repeats discounted.
        """
        value = self.constants.loss(parameters, tokens)
        ends = np.quantile([one.loss(parameters, tokens) for one in self.bootstrap], [0.05, 0.95])
        noise = NORMAL_90 * self.noise * value
        low, high = (math.hypot(float(end) - value, noise) for end in ends)
        return value - low, value + high


def read_fit(path: Path) -> Fit:
    """Read a file of own fits.

    Raises:
        UserError: it is not there, or no such file.
    """
    if not path.is_file():
        raise UserError(
            f"params.yaml: plan.fits: {path}: no such file. Make one: python -m tasks.plan.fit RUNS.json {path}"
        )
    content: dict[str, Any] = read_yaml(path)  # JSON is YAML, and this reader explains what is wrong with a file
    return validate(Fit, content, str(path))
