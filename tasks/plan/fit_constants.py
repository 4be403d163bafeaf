"""The constants of a scaling law, found from runs: the sum of Huber's losses of ln(L), by L-BFGS from several starts."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import minimize

from tasks.plan.fits import Constants, Form

DELTA = 1e-3
Array = Any
Predict = Callable[[Array], tuple[Array, Array]]
"""Parameters of the search → logarithms of the losses [runs], and their slopes [parameters, runs]."""


def fit_constants(points: Array, form: Form, starts: list[Array] | None = None) -> tuple[Constants, Array]:
    """The constants of `points` [runs, 3] (parameters, tokens, loss), and the solution to start others from.

    Logarithms are taken from the middle of the runs, which makes the constants easy to tell apart.
    """
    sizes, tokens, losses = np.log(np.asarray(points, dtype=np.float64)).T
    middle_size, middle_tokens = sizes.mean(), tokens.mean()
    near = np.stack([sizes - middle_size, tokens - middle_tokens])
    predict, bounds, grid = _sum_form(near, losses) if form == "sum" else _joint_form(near, losses)

    def objective(x: Array) -> tuple[float, Array]:
        predicted, slopes = predict(x)
        error = predicted - losses
        huber = np.where(np.abs(error) <= DELTA, 0.5 * error**2, DELTA * (np.abs(error) - 0.5 * DELTA))
        return float(huber.sum() / DELTA), slopes @ np.clip(error, -DELTA, DELTA) / DELTA

    def search(begin: Array, steps: int) -> Any:
        options = {"maxiter": steps, "ftol": 1e-10}
        return minimize(objective, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options)

    if starts is None:
        found = sorted((search(start, 40) for start in grid), key=lambda result: float(result.fun))
        starts = [result.x for result in found[:3]]  # the most promising are followed to their end
    x = min((search(start, 300) for start in starts), key=lambda result: float(result.fun)).x
    if form == "joint":
        a, b, beta = math.exp(x[0] / x[2] + middle_size), math.exp(x[1] + middle_tokens), float(x[3])
        return Constants(form=form, E=0.0, A=a, B=b, alpha=float(x[2]) * beta, beta=beta), x
    a, b = math.exp(x[0] + x[3] * middle_size), math.exp(x[1] + x[4] * middle_tokens)
    return Constants(form=form, E=math.exp(x[2]), A=a, B=b, alpha=float(x[3]), beta=float(x[4])), x


def _sum_form(near: Array, losses: Array) -> tuple[Predict, list[tuple[float, float]], list[Array]]:
    """ln(E + A / N^alpha + B / D^beta) with its slopes, bounds and starts of (ln A, ln B, ln E, alpha, beta)."""

    def predict(x: Array) -> tuple[Array, Array]:
        logs = np.stack([x[0] - x[3] * near[0], x[1] - x[4] * near[1], np.full_like(losses, x[2])])
        predicted = np.logaddexp.reduce(logs)
        shares = np.exp(logs - predicted)
        return predicted, np.stack([*shares, -shares[0] * near[0], -shares[1] * near[1]])

    level = float(losses.mean())
    shares = [level - 0.3, level - 2.0]
    bounds = [(-12, 3), (-12, 3), (-12, float(losses.min())), (0.02, 3), (0.02, 3)]
    return predict, bounds, [np.array(start) for start in product(shares, shares, shares, (0.3, 0.8), (0.3, 0.8))]


def _joint_form(near: Array, losses: Array) -> tuple[Predict, list[tuple[float, float]], list[Array]]:
    """ln((A / N)^ratio + B / D) times beta, with its slopes, bounds and starts of (ratio ln A, ln B, ratio, beta)."""

    def predict(x: Array) -> tuple[Array, Array]:
        logs = np.stack([x[0] - x[2] * near[0], x[1] - near[1]])
        inner = np.logaddexp.reduce(logs)
        shares = np.exp(logs - inner)
        return x[3] * inner, np.stack([x[3] * shares[0], x[3] * shares[1], -x[3] * shares[0] * near[0], inner])

    level = float(losses.mean())
    starts = [
        np.array([level / beta - first, level / beta - second, ratio, beta])
        for beta in (0.1, 0.3, 0.6)
        for ratio in (0.5, 1.0)
        for first, second in product((0.3, 2.0), repeat=2)
    ]
    return predict, [(-60, 60), (-60, 60), (0.05, 20), (0.02, 3)], starts
