"""Batch and learning rate for a size and an amount of tokens: published rules by name, and Step Law scaled to own runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tasks.architectures.memory import Parameters

RecipeName = Literal["own", "step_law", "porian"]


@dataclass(frozen=True)
class Recipe:
    """Tokens of a step, and the peak learning rate, before rounding."""

    batch_tokens: float
    learning_rate: float


def step_law(parameters: Parameters, tokens: float) -> Recipe:
    """Batch 0.58·D^0.571 tokens, rate 1.79·N^-0.713·D^0.307; N without the vocabulary (Li et al. 2025, arXiv:2503.04715)."""
    return Recipe(0.58 * tokens**0.571, 1.79 * parameters.blocks**-0.713 * tokens**0.307)


def porian(parameters: Parameters, tokens: float) -> Recipe:
    """Batch 2048·160·(N/108M)^(2/3) tokens, rate 0.0047·(N/108M)^(-1/3); N with the head (Porian et al. 2024, arXiv:2406.19146)."""
    size = (parameters.blocks + parameters.head) / 108e6
    return Recipe(2048 * 160 * size ** (2 / 3), 0.0047 * size ** (-1 / 3))


def recipe(
    name: RecipeName, parameters: Parameters, tokens: float, factors: Mapping[str, float] | None = None
) -> Recipe:
    """The rule `name`. own: Step Law's exponents, with the `factors` (batch, rate) by which own best runs differ from it."""
    if name == "porian":
        return porian(parameters, tokens)
    found = step_law(parameters, tokens)
    if name == "own" and factors:
        return Recipe(found.batch_tokens * factors["batch"], found.learning_rate * factors["rate"])
    return found
