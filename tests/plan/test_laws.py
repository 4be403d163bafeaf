"""Scaling laws by name give the optima that their papers print."""

import math

import pytest

from tasks.architectures.memory import Parameters
from tasks.plan.laws import EXCESS_PARAMETERS, PF_DAY, PUBLISHED, REPEATED_TOKENS, JointLaw, diminishing
from tasks.plan.recipes import porian, step_law

GOPHER = 5.76e23
"""FLOPs that Hoffmann et al. had for Chinchilla: Gopher's budget."""


@pytest.mark.parametrize(
    ("law", "billions"), [("chinchilla_rounded", 32), ("chinchilla", 40), ("besiroglu", 72), ("muennighoff", 70)]
)
def test_the_best_size_for_gophers_budget(law, billions):
    parameters, tokens = PUBLISHED[law].optimum(GOPHER)
    assert parameters / 1e9 == pytest.approx(billions, rel=0.02)
    assert 6 * parameters * tokens == pytest.approx(GOPHER)


@pytest.mark.parametrize("law", ["chinchilla", "besiroglu", "muennighoff"])
def test_the_optimum_is_where_the_loss_is_smallest(law):
    found = PUBLISHED[law]
    best, tokens = found.optimum(1e21)
    assert all(found.loss(best * f, tokens / f) > found.loss(best, tokens) for f in (0.8, 0.95, 1.05, 1.25))
    assert found.parameters_for(tokens) == pytest.approx(best)


def test_the_joint_form_is_kaplans_and_its_optimum_is_where_the_loss_is_smallest():
    law, kaplan = JointLaw("own", "", 6.4e13, 1.8e13, 0.076, 0.103, "blocks", (1e12, 1e22)), PUBLISHED["kaplan"]
    assert law.loss(1e9, 22e9) == pytest.approx(kaplan.loss(1e9, 22e9))
    best, tokens = law.optimum(1e21)
    assert 6 * best * tokens == pytest.approx(1e21)
    assert all(law.loss(best * f, tokens / f) > law.loss(best, tokens) for f in (0.8, 0.95, 1.05, 1.25))
    assert law.parameters_for(tokens) == pytest.approx(best)
    assert law.loss(best, 4e9, 1e9) == pytest.approx(law.loss(best, diminishing(4e9, 1e9, REPEATED_TOKENS)))


def test_besiroglu_wants_about_20_tokens_a_parameter():
    parameters, tokens = PUBLISHED["besiroglu"].optimum(GOPHER)
    assert tokens / parameters == pytest.approx(20, rel=0.1)


def test_kaplan_grows_the_model_five_and_a_half_times_for_ten_times_the_compute():
    kaplan = PUBLISHED["kaplan"]
    assert kaplan.optimum(PF_DAY)[0] == pytest.approx(1.3e9)
    assert kaplan.optimum(1e22)[0] / kaplan.optimum(1e21)[0] == pytest.approx(
        5.5, rel=0.05
    )  # as Hoffmann et al. put it
    assert kaplan.loss(1e30, 22e9) == pytest.approx((1.8e13 / 22e9) ** 0.103, rel=1e-6)


def test_muennighoffs_constants_and_what_repeats_are_worth():
    law = PUBLISHED["muennighoff"]
    assert (round(law.A), round(law.B), round(law.E, 2), round(law.alpha, 2)) == (521, 1488, 1.87, 0.35)
    assert law.parameters_for(25e9) / 25e9 == pytest.approx(0.051, abs=5e-4)  # equation 17
    assert (REPEATED_TOKENS, EXCESS_PARAMETERS) == (15.387756, 5.309743)
    assert diminishing(4e9, 1e9, REPEATED_TOKENS) / 4e9 > 0.93  # up to four epochs are almost as good as new text
    assert diminishing(1e15, 1e9, REPEATED_TOKENS) == pytest.approx(16.387756e9)  # and all of them no more than this


def test_muennighoffs_allocation_with_25_billion_unique_tokens():
    """Figure 1: 6.34 B parameters for 9.7 epochs are better than Chinchilla's 8.67 B for 7.1."""
    law, flops = PUBLISHED["muennighoff"], 6 * 6.34e9 * 242e9
    sizes = [10 ** (8 + step / 400) for step in range(1200)]
    best = min(sizes, key=lambda size: law.loss(size, flops / 6 / size, 25e9))
    assert best == pytest.approx(6.34e9, rel=0.1)
    assert flops / 6 / best / 25e9 == pytest.approx(9.7, rel=0.1)
    assert law.loss(6.34e9, 242e9, 25e9) < law.loss(8.67e9, 178e9, 25e9)


def test_recipes():
    size = Parameters(blocks=80_000_000, matrices=80_000_000, head=28_000_000, embedding=0)
    assert porian(size, 1e9).batch_tokens == pytest.approx(2048 * 160)
    assert porian(size, 1e9).learning_rate == pytest.approx(0.0047)
    # Step Law at 1 B parameters and 100 B tokens: about 1.1 M tokens and 1.6e-3 (arXiv:2503.04715, its own calculator).
    found = step_law(Parameters(10**9, 10**9, 0, 0), 1e11)
    assert found.batch_tokens == pytest.approx(0.58 * math.exp(0.571 * math.log(1e11)))
    assert found.learning_rate == pytest.approx(1.62e-3, rel=0.01)
