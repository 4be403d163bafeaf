"""The plan: of all shapes and amounts of tokens that a budget pays for, those of the smallest predicted loss."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.architectures.memory import Parameters, count_parameters, flops_per_token
from tasks.architectures.shape import Shape
from tasks.architectures.step_schedule import BatchPhase, StepSchedule, batch_schedule
from tasks.core.errors import UserError
from tasks.plan.fits import Fit
from tasks.plan.laws import PUBLISHED, REPEATED_TOKENS, KaplanLaw, Law, count, diminishing
from tasks.plan.params import PlanParams
from tasks.plan.recipes import recipe
from tasks.plan.shapes import SHAPE_KEYS, candidates, distance_from_aspect

PLANNED_KEYS = (*SHAPE_KEYS, "steps", "global_batch_tokens", "learning_rate", "warmup_steps")
"""Keys of pretrain that are planned where they are null."""
AS_GOOD = 0.001
"""Predicted losses this much apart, relative, count as equal: then the shape's proportions decide."""
NEAR = 1.5
"""Factor within which a run still lies in the range of a fit."""
OVER_BUDGET = 1.05
"""A run that is fixed may cost this much of the budget."""
Given = Mapping[str, Any]


@dataclass(frozen=True)
class Text:
    """What there is to train on, as pack counted it; `row_tokens` include padding."""

    vocabulary_size: int
    context_length: int
    tokens: int
    rows: int
    mixed: bool = False  # by pack.mixture

    @property
    def row_tokens(self) -> int:
        return self.rows * self.context_length


@dataclass(frozen=True)
class Planned:
    """One way to spend the budget."""

    shape: Shape
    parameters: Parameters
    steps: int
    global_batch_tokens: int
    learning_rate: float
    warmup_steps: int
    batch_phases: tuple[BatchPhase, ...] = ()

    @property
    def tokens(self) -> int:
        return batch_schedule(self.global_batch_tokens, self.batch_phases).before(self.steps)

    @property
    def flops(self) -> float:
        return float(self.tokens) * flops_per_token(self.shape, self.parameters)

    def values(self) -> dict[str, Any]:
        """The keys of pretrain."""
        return {key: getattr(self.shape if key in SHAPE_KEYS else self, key) for key in PLANNED_KEYS}


class Planner:
    """A law, a recipe and the text there is; `batch_phases`: the batches that a run begins with."""

    def __init__(
        self,
        params: PlanParams,
        text: Text,
        fit: Fit | None,
        tied: bool = True,
        batch_phases: Sequence[BatchPhase] | None = None,
    ) -> None:
        self.params, self.text, self.fit, self.tied = params, text, fit, tied
        self.batch_phases = tuple(batch_phases or ())
        self.law: Law = fit.law() if params.law == "own" and fit else PUBLISHED[params.law]

    def size(self, parameters: Parameters) -> int:
        """The parameters as the law counts them."""
        return count(parameters, self.law.counted)

    def loss(self, planned: Planned) -> float:
        """What the law predicts, in its unit."""
        return self.law.loss(self.size(planned.parameters), planned.tokens, self.text.row_tokens)

    def plan(self, flops: float, given: Given) -> Planned:
        """The best way to spend `flops`; what is `given` (a key of `PLANNED_KEYS` that is not None) stays.

        Raises:
            UserError: no shape fits what is given.
        """
        shapes = list(candidates(self.params, given, self.text.vocabulary_size, self.text.context_length))
        if not shapes:
            raise UserError(
                f"params.yaml: pretrain: no shape fits {_named(given)}: hidden is an even multiple of heads"
            )
        fixed, most = self.fixed_tokens(given), self.params.max_epochs * self.text.row_tokens
        largest = max(self._largest(most), min(self.size(count_parameters(shape, self.tied)) for shape in shapes))
        ways: list[tuple[float, Shape, Parameters, float]] = []
        beyond: list[tuple[float, Shape, Parameters, float]] = []
        for shape in shapes:
            parameters = count_parameters(shape, self.tied)
            tokens = flops / flops_per_token(shape, parameters)
            if fixed and fixed > OVER_BUDGET * tokens and len(shapes) > 1:
                continue
            tokens = fixed or min(tokens, most)
            if len(shapes) > 1 and (tokens < self.text.context_length or self.size(parameters) > largest):
                continue
            if len(shapes) > 1 and not fixed and not self._near_runs(parameters, tokens):
                beyond.append((parameters.total, shape, parameters, tokens))
                continue
            ways.append((self._regret(parameters, tokens, flops), shape, parameters, tokens))
        if not ways and beyond:  # a budget beyond all own runs: the law is all there is
            ways = [(self._regret(p, tokens, flops), s, p, tokens) for _, s, p, tokens in beyond]
        if not ways:  # not even the smallest: it is told as a run above its budget
            shape = min(shapes, key=lambda one: count_parameters(one, self.tied).total)
            return self._finished(
                shape, count_parameters(shape, self.tied), fixed or float(self.text.context_length), given
            )
        least = min(regret for regret, *_ in ways)
        equal = [way for way in ways if way[0] <= least + AS_GOOD * max(abs(least), 1e-9)]
        _, shape, parameters, tokens = min(
            equal, key=lambda way: (distance_from_aspect(way[1], self.params.aspect), way[0], way[1].hidden)
        )
        return self._finished(shape, parameters, tokens, given)

    def _regret(self, parameters: Parameters, tokens: float, flops: float) -> float:
        return self.law.regret(self.size(parameters), max(tokens, 1.0), self.text.row_tokens, flops)

    def _near_runs(self, parameters: Parameters, tokens: float) -> bool:
        """Whether own runs have had about this size and as many tokens; five constants say little of what lies beyond."""
        if self.params.law != "own" or self.fit is None:
            return True
        pairs = ((self.size(parameters), self.fit.parameters), (tokens, self.fit.tokens))
        return all(low / NEAR <= value <= high * NEAR for value, (low, high) in pairs)

    def _largest(self, tokens: float) -> float:
        """The size that is best for what all the text is worth: a larger one spends arithmetic on what it cannot learn."""
        if isinstance(self.law, KaplanLaw):
            return math.inf
        worth = diminishing(tokens, min(tokens, self.text.row_tokens), REPEATED_TOKENS)
        return self.law.parameters_for(worth)

    def _finished(self, shape: Shape, parameters: Parameters, tokens: float, given: Given) -> Planned:
        """Whole rows and steps, the rate and the warm-up."""
        factors = {"batch": self.fit.batch_factor, "rate": self.fit.rate_factor} if self.fit else None
        rule = recipe(self.params.recipe, parameters, tokens, factors)
        wanted = rule.batch_tokens
        if given.get("steps"):  # what the phases leave, over the steps that follow them
            first = self.batches(0)
            wanted = max(0, tokens - first.before(given["steps"])) / max(1, given["steps"] - first.last_from)
        batch = given.get("global_batch_tokens") or self.batch(wanted, tokens)
        steps = given.get("steps") or self.batches(batch).steps_for(tokens)
        rate = given.get("learning_rate") or float(f"{rule.learning_rate:.2g}")
        warmup = given.get("warmup_steps")
        warmup = min(steps, round(self.params.warmup_fraction * steps)) if warmup is None else warmup
        return Planned(shape, parameters, steps, batch, rate, warmup, self.batch_phases)

    def batches(self, last: int) -> StepSchedule:
        """Tokens of each step of a run whose last batch is `last`."""
        return batch_schedule(last, self.batch_phases)

    def fixed_tokens(self, given: Given) -> float | None:
        """The tokens of a run whose steps and batch are both given."""
        steps, batch = given.get("steps"), given.get("global_batch_tokens")
        return float(self.batches(batch).before(steps)) if steps and batch else None

    def batch(self, wanted: float, tokens: float) -> int:
        """A power of two of rows for each device, the nearest to what is wanted, and no more than the run or the text has."""
        row = self.text.context_length * max(1, min(self.params.devices, self.text.rows))
        power = max(0, round(math.log2(max(1.0, wanted / row))))
        while power and row * 2**power > min(tokens, self.text.row_tokens):
            power -= 1
        return row * int(2**power)

    def expected(self, planned: Planned) -> tuple[float, float | None, float | None] | None:
        """(loss, low, high) in the law's unit, or None where the run lies a decade outside what the law was fitted to."""
        low, high = self.law.flops_range
        if not low / 10 <= planned.flops <= high * 10:
            return None
        loss = self.loss(planned)
        if self.params.law != "own" or self.fit is None:
            return loss, None, None
        unique = min(planned.tokens, self.text.row_tokens)
        worth = diminishing(planned.tokens, unique, REPEATED_TOKENS)
        return loss, *self.fit.interval(self.size(planned.parameters), worth)


def _named(given: Given) -> str:
    return ", ".join(f"{key} {value}" for key, value in given.items() if key in SHAPE_KEYS and value)
