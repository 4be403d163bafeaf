"""The gate says what it found; a comparison is paired, and nobody wins inside the noise."""

from pathlib import Path
from typing import Any

import pytest

from flows.release.comparison import Comparison, compare
from flows.release.gate import champion_check, metric_checks
from flows.release.rules import Rules, load_rules
from tasks.core.errors import UserError
from tasks.core.params import read_yaml
from tasks.model.paired_difference import Difference
from tests.helpers.checkout import ROOT
from tests.helpers.tiny import tiny_model

METRICS: dict[str, Any] = {
    "prefer": {"held_out": {"after": {"ended": 0.96}}},
    "quantize": {
        "reference": {"bits_per_byte": 1.5},
        "formats": {"q8_0": {"bits_per_byte": 1.51}, "q4_0": {"bits_per_byte": 1.7}},
    },
}


def rules(**settings: Any) -> Rules:
    return Rules.model_validate(settings)


def differing(low: float, high: float) -> Comparison:
    return Comparison("texts", Difference(200, 1.5, 1.5 + (low + high) / 2, (low + high) / 2, low, high))


@pytest.mark.parametrize(
    ("bounds", "passed", "found"),
    [
        ({"at_least": {"prefer/held_out/after/ended": 0.96}}, True, "0.96"),
        ({"at_least": {"prefer/held_out/after/ended": 0.97}}, False, "0.96"),
        ({"at_most": {"prefer/held_out/after/ended": 0.96}}, True, "0.96"),
        ({"at_most": {"prefer/held_out/after/ended": 0.9}}, False, "0.96"),
        ({"at_least": {"prefer/held_out/after/end": 0.0}}, False, "not measured in this run"),
    ],
)
def test_a_metric_is_held_against_its_bound(bounds: dict[str, Any], passed: bool, found: str) -> None:
    (check,) = metric_checks(rules(format_cost=None, **bounds), METRICS)
    assert (check.passed, check.found) == (passed, found)


def test_the_format_that_is_served_is_the_one_that_counts() -> None:
    (check,) = metric_checks(rules(), METRICS)
    assert (check.rule, check.passed) == ("q8_0 costs at most 0.05 bits per byte", True)
    (check,) = metric_checks(rules(format_cost=0.005), METRICS)
    assert not check.passed
    assert not list(metric_checks(rules(), {"quantize": {"formats": {}}}))


def test_rules_are_read_and_mistakes_named(tmp_path: Path) -> None:
    assert load_rules(tmp_path) == load_rules(ROOT) == rules()  # the file that is shipped says the defaults, every one
    assert {*read_yaml(ROOT / "release.yaml")} == {*Rules.model_fields}
    (tmp_path / "release.yaml").write_text("at_least: {prefer/x: 0.5}\nwatts: 90\n")
    assert load_rules(tmp_path) == rules(at_least={"prefer/x": 0.5}, watts=90.0)
    (tmp_path / "release.yaml").write_text("at_leest: {}\n")
    with pytest.raises(UserError, match=r"release\.yaml.*at_leest"):
        load_rules(tmp_path)


@pytest.mark.parametrize(
    ("low", "high", "regression", "passed"),
    [
        (-0.2, -0.1, 0, True),
        (-0.1, 0.1, 0, True),
        (0.01, 0.2, 0, False),
        (0.01, 0.2, 0.02, True),
        (0.1, 0.2, 0.02, False),
    ],
)
def test_what_is_worse_beyond_the_interval_is_refused(low: float, high: float, regression: float, passed: bool) -> None:
    check = champion_check(rules(regression=regression), "version 1 (champion)", differing(low, high))
    assert check.passed == passed
    assert check.rule == "no worse than version 1 (champion)"
    assert "bits per byte on 200 texts" in check.found
    assert f"(95%: {low:+.4f} to {high:+.4f})" in check.found


def test_nothing_held_out_is_no_pass() -> None:
    check = champion_check(rules(), "version 1", None)
    assert not check.passed
    assert "regression" in check.found


def test_two_models_on_held_out_replies(tmp_path: Path) -> None:
    """Bits per byte are those of evaluate's reply loss; the one that has learnt is better beyond the interval."""
    import pyarrow as pa

    from tasks.conversations.conversation import SCHEMA
    from tasks.documents.shards import write_shard
    from tasks.evaluate.reply_loss import held_out_replies, reply_score, window_scores
    from tasks.model.load import load_model
    from tasks.tokens.chat_encoder import ChatEncoder
    from tests.helpers.tiny import conversation

    for name, steps in (("new", 0), ("taught", 40)):
        (tmp_path / name).mkdir()
        tiny_model(tmp_path / name, train_steps=steps)
    rows = [
        {"id": f"{n:03}", "source": "toy", "kind": "conversation", "messages": conversation(n)} for n in range(900, 930)
    ]
    write_shard(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "held/00000.parquet")
    found = compare(tmp_path / "new", tmp_path / "taught", tmp_path / "held", tmp_path, 10_000)
    assert found
    assert (found.text, found.bits_per_byte.items) == ("held-out conversations (their replies)", 30)
    assert found.bits_per_byte.high < 0
    encoder, model = ChatEncoder(tmp_path / "taught"), load_model(tmp_path / "taught", "cpu")
    windows = held_out_replies(tmp_path / "held", encoder, 128, 10_000).windows
    expected = reply_score(window_scores(model, windows, encoder, "score"))["bits_per_byte"]
    assert found.bits_per_byte.after == pytest.approx(expected, abs=1e-5)
    again = compare(tmp_path / "taught", tmp_path / "new", tmp_path / "held", tmp_path, 9000)
    assert not champion_check(rules(), "it", again).passed
