"""Scaling laws by name: the loss of a model after so many tokens, and the best size for so much arithmetic.

Each law keeps its own constants, its own way to count parameters and its own unit of loss: none of them can be mixed.
"""

import math
from dataclasses import dataclass
from typing import Literal

from tasks.architectures.memory import Parameters

Counted = Literal["blocks", "blocks and head", "all"]
PF_DAY = 1e15 * 86400
"""FLOPs of a day at 10^15 a second, Kaplan's unit."""
REPEATED_TOKENS, EXCESS_PARAMETERS = 15.387756, 5.309743
"""R*_D and R*_N of Muennighoff et al. 2023 (arXiv:2305.16264, appendix A): how slowly repeats, and size, lose their worth."""


def count(parameters: Parameters, counted: Counted) -> int:
    """The parameters as a law counts them; a tied embedding is the head and counts once."""
    if counted == "blocks":
        return parameters.blocks
    return parameters.blocks + parameters.head if counted == "blocks and head" else parameters.total


@dataclass(frozen=True)
class _Fitted:
    """What every law has that was fitted to runs: A and alpha of the parameters, B and beta of the tokens."""

    name: str
    source: str
    A: float
    B: float
    alpha: float
    beta: float
    counted: Counted
    flops_range: tuple[float, float]
    unit: str = "nats a token"


@dataclass(frozen=True)
class ParametricLaw(_Fitted):
    """L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv:2203.15556, approach 3).

    Tokens that repeat are worth less and less (Muennighoff et al. 2023): of D tokens over U unique ones count
    U + U·R*(1 - exp(-(D/U - 1) / R*)). With `excess_parameters` the same holds of parameters beyond the best for U.
    """

    E: float = 0.0
    excess_parameters: bool = False

    def loss(self, parameters: float, tokens: float, unique_tokens: float | None = None) -> float:
        """The loss in `unit`; `tokens` beyond `unique_tokens` are repeats."""
        unique = min(tokens, unique_tokens or tokens)
        worth = diminishing(tokens, unique, REPEATED_TOKENS)
        if self.excess_parameters:
            best = min(parameters, self.parameters_for(unique))
            parameters = diminishing(parameters, best, EXCESS_PARAMETERS)
        return float(self.E + self.A / parameters**self.alpha + self.B / worth**self.beta)

    def regret(self, parameters: float, tokens: float, unique_tokens: float, flops: float) -> float:
        """What the planner makes as small as it can within `flops`: the loss."""
        return self.loss(parameters, tokens, unique_tokens)

    @property
    def _balance(self) -> float:
        return float((self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta)))

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens of the smallest loss for `flops` = 6ND, all tokens unique (ibid., equation 4)."""
        parameters = self._balance * (flops / 6) ** (self.beta / (self.alpha + self.beta))
        return parameters, flops / 6 / parameters

    def parameters_for(self, tokens: float) -> float:
        """The size for which `tokens` unique tokens are the best amount."""
        # D = (C/6)^(alpha/(alpha+beta)) / G, solved for C and put into N = G (C/6)^(beta/(alpha+beta)).
        return self._balance * float((self._balance * tokens) ** (self.beta / self.alpha))


@dataclass(frozen=True)
class JointLaw(_Fitted):
    """L(N, D) = ((A / N)^(alpha / beta) + B / D)^beta (Kaplan et al. 2020, arXiv:2001.08361, equation 1.5).

    Sizes that have seen few tokens still learn fast, whatever their own limit; the sum of `ParametricLaw` has them all learn at one
    pace. Tokens that repeat are worth less, as there.
    """

    def loss(self, parameters: float, tokens: float, unique_tokens: float | None = None) -> float:
        """The loss in `unit`; `tokens` beyond `unique_tokens` are repeats."""
        worth = diminishing(tokens, min(tokens, unique_tokens or tokens), REPEATED_TOKENS)
        return float(((self.A / parameters) ** (self.alpha / self.beta) + self.B / worth) ** self.beta)

    def regret(self, parameters: float, tokens: float, unique_tokens: float, flops: float) -> float:
        """What the planner makes as small as it can within `flops`: the loss."""
        return self.loss(parameters, tokens, unique_tokens)

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens of the smallest loss for `flops` = 6ND, all tokens unique."""
        ratio = self.alpha / self.beta
        parameters = (ratio * self.A**ratio * flops / 6 / self.B) ** (1 / (1 + ratio))
        return parameters, flops / 6 / parameters

    def parameters_for(self, tokens: float) -> float:
        """The size for which `tokens` unique tokens are the best amount."""
        ratio = self.alpha / self.beta
        return float(self.A * (ratio * tokens / self.B) ** (1 / ratio))


def diminishing(amount: float, unique: float, worth: float) -> float:
    """What `amount` is worth of which only `unique` is new (Muennighoff et al. 2023, equation 5)."""
    excess = amount / unique - 1
    return unique + unique * worth * (1 - math.exp(-excess / worth)) if excess > 0 else amount


class KaplanLaw(JointLaw):
    """Kaplan et al. 2020 (arXiv:2001.08361): the joint form, and the size for a compute budget of equation 6.1.

    The two do not follow from each other: the second is for training that stops early, at small batches.
    """

    def loss(self, parameters: float, tokens: float, unique_tokens: float | None = None) -> float:
        """The loss in nats a token; it knows nothing of repeats."""
        return super().loss(parameters, tokens)

    def regret(self, parameters: float, tokens: float, unique_tokens: float, flops: float) -> float:
        """What the planner makes as small as it can: the distance from the best size for `flops`."""
        return abs(math.log(parameters / self.optimum(flops)[0]))

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens for `flops`: 1.3e9 at one PF-day, growing as C^0.73."""
        parameters = 1.3e9 * (flops / PF_DAY) ** 0.73
        return parameters, flops / 6 / parameters


Law = ParametricLaw | JointLaw

# Hoffmann et al. trained 70 M to 16 B parameters with 6e18 to 3e21 FLOPs (section 3); Muennighoff et al. fitted 7 M to 9 B.
CHINCHILLA_RANGE = (6e18, 3e21)
HOFFMANN = "Hoffmann et al. 2022, arXiv:2203.15556, approach 3"
# Unrounded exponents, and A, B, E by full digits, as in the source of the paper (Besiroglu et al. 2024, section 2).
_LAWS: tuple[Law, ...] = (
    KaplanLaw(
        "kaplan",
        "Kaplan et al. 2020, arXiv:2001.08361",
        6.4e13,
        1.8e13,
        0.076,
        0.103,
        "blocks",
        (1e-5 * PF_DAY, 10 * PF_DAY),  # the frontier of figure 1
    ),
    ParametricLaw(
        "chinchilla", f"{HOFFMANN}, unrounded", 406.4, 410.7, 0.3392, 0.2849, "all", CHINCHILLA_RANGE, E=1.6934
    ),
    ParametricLaw(
        "chinchilla_rounded", f"{HOFFMANN}, as printed", 406.4, 410.7, 0.34, 0.28, "all", CHINCHILLA_RANGE, E=1.69
    ),
    ParametricLaw(
        "besiroglu",
        "Besiroglu et al. 2024, arXiv:2404.10102",
        482.01,
        2085.43,
        0.3478,
        0.3658,
        "all",
        CHINCHILLA_RANGE,
        E=1.8172,
    ),
    ParametricLaw(
        "muennighoff",
        "Muennighoff et al. 2023, arXiv:2305.16264, appendix A",
        math.exp(6.255414),  # printed as 521, 1488, 0.35 and 1.87
        math.exp(7.3049974),
        0.3526596,
        0.3526596,
        "all",
        (1e18, 1e22),
        E=math.exp(0.6254804),
        excess_parameters=True,
    ),
)
PUBLISHED = {law.name: law for law in _LAWS}
