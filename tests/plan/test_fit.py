"""Fitting finds the constants that made the runs, says how far it may be off, and refuses what cannot be fitted."""

import json
import math

import numpy as np
import pytest

from tasks.core.errors import UserError
from tasks.plan.fit import Run, best_runs, fit, main
from tasks.plan.fits import Constants, read_fit

TRUE = Constants(E=0.9, A=60.0, B=250.0, alpha=0.35, beta=0.37)


@pytest.fixture(autouse=True)
def few_bootstraps(monkeypatch):
    monkeypatch.setattr("tasks.plan.fit.BOOTSTRAPS", 8)


def run(blocks: int, tokens: int, noise: float = 0.0, **changes) -> Run:
    head = 100_000
    loss = TRUE.loss(blocks + head, tokens) * math.exp(noise)
    given = {
        "global_batch_tokens": 4096,
        "learning_rate": 0.005,
        "unique_tokens": 10**9,
        "bits_per_byte": loss,
    } | changes
    flops = 6.0 * (blocks + head) * tokens
    return Run(blocks=blocks, head=head, tokens=tokens, flops=flops, vocabulary_size=4096, context_length=256, **given)


def grid(noise: float = 0.0, seed: int = 0) -> list[Run]:
    """Four sizes at four budgets."""
    generator = np.random.default_rng(seed)
    sizes = (200_000, 500_000, 1_200_000, 3_000_000)
    budgets = (1e12, 3e12, 1e13, 3e13)
    return [run(n, int(c / 6 / (n + 100_000)), noise * generator.normal()) for n in sizes for c in budgets]


def test_known_constants_come_back():
    found = fit(grid())
    for name, value in TRUE.model_dump(exclude={"form"}).items():
        assert getattr(found.constants, name) == pytest.approx(value, rel=0.02), name
    assert found.constants.form == "sum"
    assert found.noise < 1e-4
    assert max(found.left_out.values()) < 1e-3
    assert found.law().optimum(1e13)[0] == pytest.approx(
        found.law().parameters_for(1e13 / 6 / found.law().optimum(1e13)[0])
    )


def test_the_form_that_predicts_unseen_budgets_is_taken():
    true = Constants(form="joint", A=1.2e7, B=2.8e8, alpha=0.13, beta=0.1)

    def made(row: Run) -> Run:
        return row.model_copy(update={"bits_per_byte": true.loss(row.blocks + row.head, row.tokens)})

    found = fit([made(row) for row in grid()])
    assert found.constants.form == "joint"
    assert found.constants.alpha == pytest.approx(0.13, rel=0.05)
    assert found.constants.beta == pytest.approx(0.1, rel=0.05)
    assert found.noise < 1e-4
    assert found.form_errors["joint"] < 0.001 < found.form_errors["sum"]
    assert found.law().loss(1e6, 1e7) == pytest.approx(true.loss(1e6, 1e7), rel=1e-3)


def test_the_interval_holds_the_truth_where_runs_scatter():
    found = fit(grid(noise=0.003))
    for size, tokens in ((1e6, 3e6), (3e6, 5e6)):  # the second lies beyond the runs
        low, high = found.interval(size, tokens)
        assert low < TRUE.loss(size, tokens) < high
    assert 0.001 < found.noise < 0.006
    assert max(found.left_out.values()) < 0.02


def test_of_each_size_the_best_recipe_counts_and_seeds_are_averaged():
    better = [run(500_000, 10**6, bits_per_byte=x, learning_rate=0.01) for x in (1.9, 2.1)]
    worse = run(500_000, 10**6, bits_per_byte=2.05)
    lucky = run(500_000, 10**6, bits_per_byte=1.95, learning_rate=0.02)
    assert [(r.learning_rate, r.bits_per_byte) for r in best_runs([worse, *better])] == [(0.01, 2.0)]
    assert [r.learning_rate for r in best_runs([worse, *better, lucky])] == [0.02]


def test_repeats_count_for_less():
    assert run(500_000, 8 * 10**6, unique_tokens=10**6).point[1] < 8 * 10**6
    assert run(500_000, 10**6, unique_tokens=2 * 10**6).point[1] == 10**6


def test_runs_of_few_steps_are_left_out():
    starved = run(3_000_000, 100_000, bits_per_byte=9.0, global_batch_tokens=1024)
    runs = grid(0.003)
    assert fit([*runs, starved]).model_copy(update={"runs": 16}) == fit(runs)  # and the same runs give the same fit


def test_what_cannot_be_fitted_is_refused(tmp_path, capsys):
    with pytest.raises(UserError, match="too few for five constants"):
        fit(grid()[:5])
    other = grid()[0].model_copy(update={"vocabulary_size": 8192})
    with pytest.raises(UserError, match="several vocabularies"):
        fit([*grid(), other])
    (tmp_path / "runs.json").write_text(json.dumps({"runs": [{"blocks": 0}]}))
    assert main([str(tmp_path / "runs.json"), str(tmp_path / "out.json")]) == 2
    assert "runs.0.blocks" in capsys.readouterr().err


def test_the_command_writes_what_the_planner_reads(tmp_path, capsys):
    runs, out = tmp_path / "runs.json", tmp_path / "fits" / "mine.json"
    runs.write_text(json.dumps({"runs": [r.model_dump() | {"seconds": 3} for r in grid(0.002)]}))
    assert main([str(runs), str(out)]) == 0
    assert "budget left out" in capsys.readouterr().out
    assert read_fit(out).runs == 16
    with pytest.raises(UserError, match=r"no such file. Make one: python -m tasks\.plan\.fit"):
        read_fit(tmp_path / "none.json")
