"""Fit a scaling law to training runs of one's own: `python -m tasks.plan.fit RUNS.json OUT.json`.

Parametric, as Hoffmann et al. 2022 (arXiv:2203.15556, approach 3) with the sum of Huber's losses of ln(L), delta 0.001, by
L-BFGS from several starts; Besiroglu et al. 2024 (arXiv:2404.10102): the sum, since a mean ends the search too early. Of two
forms of law the one that better predicts budgets which it has not seen is taken. RUNS.json is what `make sweep` writes.
"""

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.architectures.memory import Parameters
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.params import read_yaml, validate
from tasks.core.paths import write_json
from tasks.plan.fit_constants import fit_constants
from tasks.plan.fits import Constants, Fit, Form
from tasks.plan.laws import REPEATED_TOKENS, diminishing
from tasks.plan.recipes import step_law

BOOTSTRAPS = 100
FEWEST_RUNS = 8
"""Sizes and amounts of tokens that are needed for five constants."""
FEWEST_STEPS = 150
"""Runs of fewer say more of warm-up and batch than of size and tokens, and are left out."""
FORMS: tuple[Form, ...] = get_args(Form)
Array = Any


class Run(BaseModel):
    """One training run; what else its file says of it is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    blocks: int = Field(gt=0)
    head: int = Field(gt=0)
    tokens: int = Field(gt=0)
    unique_tokens: int = Field(gt=0)
    flops: float = Field(gt=0)
    bits_per_byte: float = Field(gt=0)
    global_batch_tokens: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    vocabulary_size: int
    context_length: int

    @property
    def point(self) -> tuple[float, float, float]:
        """Parameters, tokens by their worth, and loss."""
        worth = diminishing(self.tokens, min(self.tokens, self.unique_tokens), REPEATED_TOKENS)
        return self.blocks + self.head, worth, self.bits_per_byte


class Runs(BaseModel):
    """The file of runs."""

    runs: list[Run]


def best_runs(runs: list[Run]) -> list[Run]:
    """Of each size and amount of tokens, the run of the best recipe: seeds of one recipe are averaged first."""
    groups: dict[Any, dict[Any, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        place = (run.blocks, run.head, round(20 * math.log(run.tokens)))
        groups[place][(run.global_batch_tokens, run.learning_rate)].append(run)
    best = []
    for recipes in groups.values():
        means = [
            seeds[0].model_copy(update={"bits_per_byte": sum(run.bits_per_byte for run in seeds) / len(seeds)})
            for seeds in recipes.values()
        ]
        best.append(min(means, key=lambda run: run.bits_per_byte))
    return best


def left_out_errors(runs: list[Run], form: Form, start: Array) -> dict[str, float]:
    """Of each budget (runs within a factor of two), the mean error of ln(loss) when it is predicted from the others."""
    budgets: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        budgets[round(math.log2(run.flops))].append(run)
    errors = {}
    for budget, left_out in sorted(budgets.items()):
        rest = [run.point for run in runs if run not in left_out]
        if len(rest) < FEWEST_RUNS - 2:
            continue
        constants, _ = fit_constants(rest, form, [start, start * 0.9])
        errors[f"{2.0**budget:.1e}"] = round(_mean([abs(_miss(constants, run.point)) for run in left_out]), 5)
    return errors


def fit(runs: list[Run], seed: int = 0) -> Fit:
    """Fit all there is to the runs.

    Raises:
        UserError: too few of them, or of several vocabularies or contexts, whose bits per byte cannot be compared.
    """
    kinds = {(run.vocabulary_size, run.context_length) for run in runs}
    if len(kinds) > 1:
        raise UserError(
            f"the runs have several vocabularies and contexts, which one law does not hold for: {sorted(kinds)}"
        )
    best = best_runs([run for run in runs if run.tokens >= FEWEST_STEPS * run.global_batch_tokens])
    if len(best) < FEWEST_RUNS:
        raise UserError(
            f"{len(best)} sizes and amounts of tokens with {FEWEST_STEPS} steps or more are too few for five constants. "
            f"At least {FEWEST_RUNS}"
        )
    points = np.array([run.point for run in best])
    fitted = {form: fit_constants(points, form) for form in FORMS}
    misses = {form: [_miss(constants, point) for point in points] for form, (constants, _) in fitted.items()}
    left_out = {form: left_out_errors(best, form, solution) for form, (_, solution) in fitted.items()}
    form_errors = {form: _mean([*left_out[form].values()] or [abs(miss) for miss in misses[form]]) for form in FORMS}
    form = min(FORMS, key=lambda form: form_errors[form])
    constants, solution = fitted[form]
    generator = np.random.default_rng(seed)
    drawn = (points[generator.integers(0, len(points), len(points))] for _ in range(BOOTSTRAPS))
    bootstrap = [fit_constants(sample, form, [solution])[0] for sample in drawn]
    tried = [run for run in best if _recipes(run, runs) > 1] or best
    rules = [step_law(Parameters(run.blocks, run.blocks, run.head, 0), run.tokens) for run in tried]
    batches = [math.log(run.global_batch_tokens / rule.batch_tokens) for run, rule in zip(tried, rules, strict=True)]
    rates = [math.log(run.learning_rate / rule.learning_rate) for run, rule in zip(tried, rules, strict=True)]
    (vocabulary_size, context_length), *_ = kinds
    return Fit(
        unit="bits per byte",
        counted="blocks and head",
        runs=len(runs),
        vocabulary_size=vocabulary_size,
        context_length=context_length,
        flops=(min(run.flops for run in best), max(run.flops for run in best)),
        parameters=(min(points[:, 0]), max(points[:, 0])),
        tokens=(min(points[:, 1]), max(points[:, 1])),
        constants=_rounded(constants),
        bootstrap=[_rounded(one) for one in bootstrap],
        noise=round(float(np.std(misses[form])), 6),
        left_out=left_out[form],
        form_errors={form: round(error, 5) for form, error in form_errors.items()},
        batch_factor=round(math.exp(sum(batches) / len(batches)), 4),
        rate_factor=round(math.exp(sum(rates) / len(rates)), 4),
    )


def _recipes(run: Run, runs: list[Run]) -> int:
    same = [other for other in runs if (other.blocks, other.head) == (run.blocks, run.head)]
    return len({(o.global_batch_tokens, o.learning_rate) for o in same if 0.97 < o.tokens / run.tokens < 1.03})


def _miss(constants: Constants, point: Any) -> float:
    """How far ln(loss) is missed."""
    size, tokens, loss = point
    return math.log(constants.loss(size, tokens) / loss)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rounded(constants: Constants) -> Constants:
    numbers = constants.model_dump(exclude={"form"})
    return Constants(form=constants.form, **{name: float(f"{value:.7g}") for name, value in numbers.items()})


def main(arguments: list[str] | None = None) -> int:
    """Fit and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path, help="JSON file that make sweep wrote")
    parser.add_argument("out", type=Path, help="file of fits, e.g. tasks/plan/fits/default.json")
    given = parser.parse_args(arguments)
    try:
        found = fit(validate(Runs, read_yaml(given.runs), str(given.runs)).runs)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    write_json(given.out, found.model_dump(mode="json"))
    numbers = found.constants.model_dump(exclude={"form"})
    constants = ", ".join(f"{name} {value:g}" for name, value in numbers.items() if value)
    errors = ", ".join(f"{form} {error:.2%}" for form, error in found.form_errors.items())
    print(
        f"{given.out}: {found.constants.form}: {constants}; noise {found.noise:.2%}; with a budget left out: {errors}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
