"""Numbers that change at given steps: a run that begins with other batches or shorter rows, and what that makes of its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pydantic import Field

from tasks.core.params import StageParams


class BatchPhase(StageParams):
    """The batch before `pretrain.global_batch_tokens`."""

    until_step: int = Field(ge=1, description="Steps that are taken when it ends.")
    global_batch_tokens: int = Field(ge=8, description="Tokens of one step, over all ranks.")


class ContextPhase(StageParams):
    """Rows that are shorter than pack's."""

    until_step: int = Field(ge=1, description="Steps that are taken when it ends.")
    context_length: int = Field(ge=8, description="Tokens in a row; divides pack.context_length.")


@dataclass(frozen=True)
class StepSchedule:
    """A number by step, from 0 on: `last`, but while fewer than `until` steps are taken that of the first such phase.

    `phases`: (until, number), ascending.
    """

    last: int
    phases: tuple[tuple[int, int], ...] = ()

    @property
    def last_from(self) -> int:
        """The step from which on it is `last`."""
        return self.phases[-1][0] if self.phases else 0

    @property
    def numbers(self) -> set[int]:
        """All that it is at some step."""
        return {self.last, *(number for _, number in self.phases)}

    def at(self, step: int) -> int:
        """The number of step `step`."""
        return next((number for until, number in self.phases if step < until), self.last)

    def before(self, step: int) -> int:
        """The sum over all steps before `step`."""
        total = begun = 0
        for until, number in self.phases:
            total += number * (min(until, step) - begun)
            begun = min(until, step)
        return total + self.last * (step - begun)

    def parts(self, size: int) -> "StepSchedule":
        """How many parts of `size` each number is."""
        return StepSchedule(self.last // size, tuple((until, number // size) for until, number in self.phases))

    def steps_for(self, amount: float) -> int:
        """Steps whose sum is the nearest to `amount`; 1 at least."""
        done = begun = 0
        for until, number in self.phases:
            if amount < done + number * (until - begun):
                return max(1, begun + round((amount - done) / number))
            done += number * (until - begun)
            begun = until
        return max(1, begun + round((amount - done) / self.last))


def batch_schedule(last: int, phases: Sequence[BatchPhase] | None) -> StepSchedule:
    """Tokens of each step, of what params.yaml says."""
    return StepSchedule(last, tuple((phase.until_step, phase.global_batch_tokens) for phase in phases or ()))


def check_phases(key: str, ends: Sequence[int], steps: int | None) -> None:
    """Check that phases follow one another, and that the run is longer than they are.

    Raises:
        ValueError: they do not, or it is not.
    """
    for before, end in pairwise(ends):
        if end <= before:
            raise ValueError(f"{key}: until_step must grow from phase to phase, got {end} after {before}")
    if ends and steps is not None and ends[-1] >= steps:
        raise ValueError(f"{key}: the last until_step ({ends[-1]}) must be less than steps ({steps})")
