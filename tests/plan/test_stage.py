"""Plan: the budget is spent on the best shape, own numbers stay and have a price, what is doubtful is said."""

import pytest

from tasks.architectures.step_schedule import BatchPhase
from tasks.core.errors import UserError
from tasks.plan.devices import DEVICES
from tasks.pretrain.params import PretrainParams
from tasks.pretrain.planned import planned_params
from tests.helpers.checkout import ROOT
from tests.helpers.planning import CONSTANTS, FIT, planned


def test_the_budget_is_spent_on_the_best_size(tmp_path):
    metrics, plan, values = planned(tmp_path, flops=3e13)
    run = plan["run"]
    assert run["flops"] == pytest.approx(3e13, rel=0.02)
    best, _ = FIT.law().optimum(3e13)
    assert 0.5 < run["parameters"] / best < 2
    assert run["expected"]["loss"] == pytest.approx(CONSTANTS.loss(run["parameters"], run["tokens"]), rel=1e-5)
    low, high = run["expected"]["interval"]
    assert low < run["expected"]["loss"] < high
    assert metrics["bits_per_byte"] == run["expected"]["loss"]
    assert values["given"] == {}
    params = planned_params(PretrainParams(), tmp_path / "out/planned.json")
    assert params.hidden % params.heads == 0
    assert params.steps * params.global_batch_tokens == run["tokens"]
    assert plan["overrides"] is None
    assert run["seconds"] == pytest.approx(run["flops"] / (2 * 0.16e12 * 0.4))


def test_ten_times_the_budget_grows_both_size_and_tokens(tmp_path):
    runs = [planned(tmp_path, flops=flops)[1]["run"] for flops in (3e12, 3e13)]
    assert runs[1]["parameters"] > runs[0]["parameters"]
    assert runs[1]["tokens"] > runs[0]["tokens"]
    assert runs[1]["expected"]["loss"] < runs[0]["expected"]["loss"]


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    planned(tmp_path)
    before = [(tmp_path / "out" / name).read_bytes() for name in ("plan.json", "planned.json")]
    planned(tmp_path)
    assert before == [(tmp_path / "out" / name).read_bytes() for name in ("plan.json", "planned.json")]


def test_own_numbers_stay_and_what_they_cost_is_said(tmp_path):
    own = {"layers": 1, "hidden": 512, "steps": 100}
    _, plan, values = planned(tmp_path, own, flops=3e13)
    assert values["given"] == own
    assert {key: values["values"][key] for key in own} == own
    assert values["values"]["heads"] == 8  # of the width that is given, in heads of 64
    assert plan["overrides"]["cost"] > 0.01
    assert plan["overrides"]["given_and_planned"]["hidden"][0] == 512
    _, plan, _ = planned(tmp_path, {"learning_rate": 0.5}, flops=3e13)
    assert plan["overrides"]["cost"] == 0.0  # the law knows nothing of rates
    assert not plan["overrides"]["of_law"]


def test_batches_at_first_count_among_the_tokens_of_the_budget(tmp_path):
    _, whole, values = planned(tmp_path, flops=3e13)
    batch, context = values["values"]["global_batch_tokens"], whole["text"]["context_length"]
    phases = [{"until_step": 100, "global_batch_tokens": context}]
    given = [BatchPhase.model_validate(phase) for phase in phases]
    _, plan, values = planned(tmp_path, {"batch_schedule": given}, flops=3e13)
    assert values["given"] == {}
    assert plan["run"]["batch_schedule"] == phases
    steps = values["values"]["steps"]
    assert plan["run"]["tokens"] == 100 * context + (steps - 100) * batch
    assert plan["run"]["tokens"] == pytest.approx(whole["run"]["tokens"], abs=batch)
    params = planned_params(PretrainParams.model_validate({"batch_schedule": phases}), tmp_path / "out/planned.json")
    assert params.batch_tokens.before(params.steps) == plan["run"]["tokens"]


def test_all_numbers_given_are_the_run(tmp_path):
    """As the presets have it: nothing is planned, and a run above its budget is told."""
    own = {"layers": 4, "hidden": 192, "heads": 3, "kv_heads": 1, "intermediate": 512, "steps": 450}
    own |= {"global_batch_tokens": 4096, "learning_rate": 0.005, "warmup_steps": 20}
    _, plan, values = planned(tmp_path, own, flops=1e13)
    assert values["values"] == own
    assert plan["run"]["parameters"] == 2_361_024  # as transformers counts them
    assert plan["warnings"][0].startswith("The run costs 3e+13 FLOPs, more than the budget of 1e+13")


def test_too_little_text_is_told_and_the_model_is_no_larger_than_it_is_worth(tmp_path):
    _, plan, _ = planned(tmp_path, tokens=100_000, flops=3e13)
    assert plan["run"]["epochs"] <= 4.1
    assert any("passed over 4.0 times" in warning for warning in plan["warnings"])
    assert any("of the budget is spent" in warning for warning in plan["warnings"])
    _, much, _ = planned(tmp_path, flops=3e13)
    assert plan["run"]["parameters"] < much["run"]["parameters"]
    assert not any("passed over" in warning for warning in much["warnings"])


def test_budgets_in_hours_and_money(tmp_path):
    published = {
        "law": "besiroglu",
        "recipe": "step_law",
        "fits": None,
        "device": "h100-sxm",
        "devices": 8,
        "flops": None,
    }
    _, hours, _ = planned(tmp_path, tokens=10**12, hours=24, mfu=0.5, **published)
    assert hours["budget"]["flops"] == pytest.approx(24 * 3600 * 8 * 0.5 * 989.4e12, rel=1e-5)
    assert hours["run"]["seconds"] == pytest.approx(86400, rel=0.02)
    _, money, _ = planned(tmp_path, tokens=10**12, money=24 * 8 * 2.5, price=2.5, mfu=0.5, **published)
    assert money["values"] == hours["values"]
    run = hours["run"]
    assert run["tokens_per_parameter"] == pytest.approx(20, rel=0.4)
    assert run["expected"]["unit"] == "nats a token"
    assert run["expected"]["interval"] is None
    shape = hours["values"]
    assert 30 < shape["hidden"] / shape["layers"] < 75


@pytest.mark.parametrize("law", ["kaplan", "chinchilla", "chinchilla_rounded", "muennighoff"])
def test_published_laws_predict_nothing_five_decades_below_their_range(tmp_path, law):
    metrics, plan, _ = planned(tmp_path, law=law, recipe="porian", fits=None)
    assert plan["run"]["expected"] is None
    assert "bits_per_byte" not in metrics
    assert any("the loss is not predicted" in warning for warning in plan["warnings"])


def test_a_vocabulary_too_large_and_a_fit_of_another_one(tmp_path, monkeypatch):
    _, plan, _ = planned(tmp_path, {"hidden": 64, "layers": 1}, flops=1e13)
    assert any("vocabulary is large for the budget: 7" in warning for warning in plan["warnings"])
    monkeypatch.setattr("tests.helpers.planning.FIT", FIT.model_copy(update={"vocabulary_size": 512}))
    _, plan, _ = planned(tmp_path)
    assert any("fit is of a vocabulary of 512" in warning for warning in plan["warnings"])


def test_an_untied_head_and_another_family(tmp_path):
    _, plan, _ = planned(tmp_path, {"hidden": 192, "layers": 4, "architecture.tie_embeddings": False, "family": "gpt2"})
    assert (
        plan["run"]["parameters"] == plan["run"]["blocks"] + 4096 * 192
    )  # the head, and not the rows that are looked up
    weights = plan["memory"]["by_stage"][0]["weights_bytes"]
    assert weights == 4 * (plan["run"]["parameters"] + 4096 * 192)
    assert plan["warnings"][-1].startswith("Parameters, arithmetic and memory are counted as llama's")


def test_too_little_memory_names_the_stage_that_fits(tmp_path):
    own = {"layers": 32, "hidden": 4096, "heads": 32, "precision": "bf16", "zero_stage": 1, "micro_batch_rows": 1}
    published = {"law": "besiroglu", "recipe": "step_law", "fits": None, "device": "h100-sxm", "devices": 8}
    _, plan, _ = planned(tmp_path, own, tokens=10**12, flops=1e21, **published)
    totals = [row["total_bytes"] for row in plan["memory"]["by_stage"]]
    assert totals == sorted(totals, reverse=True)
    assert plan["memory"]["by_stage"][1]["weights_bytes"] == pytest.approx(2 * plan["run"]["parameters"], rel=0.01)
    assert not any("GiB a device are needed" in w for w in plan["warnings"])
    plan_small = planned(tmp_path, own, tokens=10**12, flops=1e21, **(published | {"device": "a100-40gb"}))[1]
    assert any("zero_stage 3 fits" in w or "zero_stage 2 fits" in w for w in plan_small["warnings"])


def test_a_given_model_is_warmed_up_again_to_a_smaller_peak(tmp_path):
    source = {"start_from": "owner/name", "enters": "pretrain", "revision": None, "files": {}, "model_type": "llama"}
    source |= {"context_length": 512, "vocabulary_size": 4096, "parameters": 10**6, "added_tokens": []}
    _, plan, values = planned(tmp_path, {"optimizer": "muon"}, source=source)
    found = values["values"]
    assert set(found) == {"steps", "global_batch_tokens", "learning_rate", "warmup_steps"}
    tokens = found["steps"] * found["global_batch_tokens"]
    assert found["learning_rate"] == pytest.approx(0.1 * 1.79 * (10**6) ** -0.713 * tokens**0.307, rel=0.05)  # Step Law
    assert found["warmup_steps"] == round(0.045 * found["steps"]) > 0
    assert plan["run"]["flops"] == pytest.approx(3e13, rel=0.02)
    assert [warning.split()[0] for warning in plan["warnings"]] == ["pack.mixture", "pretrain.optimizer"]
    params = planned_params(PretrainParams(start_from="owner/name", optimizer="muon"), tmp_path / "out/planned.json")
    assert (params.layers, params.learning_rate) == (None, found["learning_rate"])
    _, plan, values = planned(tmp_path, {"learning_rate": 1e-4, "warmup_steps": 0}, source=source)
    assert (values["values"]["learning_rate"], values["values"]["warmup_steps"]) == (1e-4, 0)
    assert planned(tmp_path, source=source, rewarm=0.2)[2]["values"]["learning_rate"] == pytest.approx(
        2 * found["learning_rate"], rel=0.05
    )
    assert planned(tmp_path, source=source | {"enters": "finetune"})[0] == {"start_from": "owner/name"}


def test_numbers_that_fit_no_shape(tmp_path):
    with pytest.raises(UserError, match="no shape fits hidden 50, heads 4"):
        planned(tmp_path, {"hidden": 50, "heads": 4})


def test_pretrain_without_a_plan_and_with_one_of_other_numbers(tmp_path):
    with pytest.raises(UserError, match=r"pretrain\.\{layers,.*warmup_steps\}: null, and there is no plan"):
        planned_params(PretrainParams(), None)
    planned(tmp_path)
    with pytest.raises(UserError, match="planned for other numbers"):
        planned_params(PretrainParams(layers=3), tmp_path / "out/planned.json")


def test_the_page_has_the_table_of_devices():
    page = (ROOT / "docs/planning.md").read_text()
    for device in DEVICES.values():
        assert f"| `{device.name}` | {device.memory_gib or '–'} | {device.tflops:g} |" in page
