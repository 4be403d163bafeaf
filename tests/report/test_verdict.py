"""What the report says of the numbers: each rule turns where its source says, names its numbers, and what to change."""

import copy
from typing import Any

import pytest

from tasks.report.findings import Finding, findings

GOOD: dict[str, Any] = {
    "clean": {"documents_in": 1000, "documents_out": 950, "removed": {"language": 50}},
    "dedup": {"documents_in": 950, "documents_out": 900, "removed": {"near_duplicate": 50}},
    "decontaminate": {"documents_in": 900, "documents_out": 900, "removed": {}},
    "pack": {"train": {"tokens": 30_000_000}},
    "pretrain": {"parameters": 1_000_000, "epochs": 0.7, "tokens": 21_000_000},
    "evaluate": {
        "validation_bits_per_byte": 1.6,
        "validation_text": "conversations",
        "xz_bits_per_byte": 2.6,
        "pretrain": {"conversations": {"bits_per_byte": 1.6}},
        "finetune": {"conversations": {"bits_per_byte": 1.7}},
        "replies": {"pretrain": {"bits_per_byte": 2.5}, "finetune": {"bits_per_byte": 1.9}},
    },
    "quantize": {
        "reference": {"bits_per_byte": 1.7},
        "formats": {"q4_0": {"bytes": 5, "bits_per_byte": 1.71}, "f16": {"bytes": 9, "bits_per_byte": 1.7}},
    },
}
SAID = {"ended": 0.75, "words": 15.0, "reward": 0.7, "distinct_pairs": 0.5, "echoes": 0.01, "role_markers": 0.0}
GOOD["prefer"] = {
    "held_out": {
        "contexts": 250,
        "people": SAID | {"reward": 0.8},
        "before": SAID,
        "after": SAID | {"reward": 0.81},
        "kl": 0.05,
    }
}
CURVES = {"pretrain": {"validation_bits_per_byte": [None, 2.0, 1.7]}}


def finding(question: str, change: dict[str, Any], curves: Any = CURVES) -> Finding:
    """The finding on `question` after `change`, whose keys are paths into the metrics."""
    metrics = copy.deepcopy(GOOD)
    for path, value in change.items():
        node = metrics
        *parents, last = path.split("/")
        for part in parents:
            node = node[part]
        node[last] = value
    (found,) = [finding for finding in findings(metrics, curves) if question in finding.question]
    return found


def test_a_good_run_has_nothing_to_change() -> None:
    found = findings(GOOD, CURVES)
    assert 3 <= len(found) <= 6
    assert all(finding.good and not finding.advice for finding in found)


@pytest.mark.parametrize(
    ("question", "change", "numbers", "advice"),
    [
        ("data", {"clean/removed": {"language": 900}}, ("900", "language", "90%"), "`clean`"),
        ("enough", {"pretrain/tokens": 2_000_000, "pretrain/epochs": 0.07}, ("2,000,000", "0.07"), "pretrain.steps"),
        (
            "enough",
            {"pretrain/tokens": 4_000_000, "pretrain/epochs": 3.9, "pack/train/tokens": 1_000_000},
            ("3.9", "1,000,000"),
            "scrape.sources",
        ),
        ("enough", {"pretrain/epochs": 9.0}, ("9",), "scrape.sources"),
        ("learn", {"evaluate/validation_bits_per_byte": 2.7}, ("2.700", "2.600"), "pretrain.steps"),
        ("learn", {"evaluate/validation_bits_per_byte": None}, (), "instruct.validation_fraction"),
        ("tuning", {"evaluate/replies/finetune": {"bits_per_byte": 2.6}}, ("2.500", "2.600"), "finetune"),
        ("rewards", {"prefer/held_out/after/reward": 0.69}, ("0.70 and 0.69", "250"), "Raise `prefer.grpo.steps`"),
        ("rewards", {"prefer/held_out/after/echoes": 0.2}, ("got worse: echoes",), "Raise `prefer.grpo.beta`"),
        (
            "rewards",
            {"prefer/held_out/after/distinct_pairs": 0.3},
            ("got worse: sameness",),
            "Raise `prefer.grpo.beta`",
        ),
        ("size", {"quantize/formats/q4_0/bits_per_byte": 1.8}, ("q4_0", "+0.1000"), "quantize.formats"),
    ],
)
def test_each_rule_turns(question: str, change: dict[str, Any], numbers: tuple[str, ...], advice: str) -> None:
    found = finding(question, change)
    assert not found.good
    assert all(number in found.text for number in numbers)
    assert advice in found.advice


PAIRS = {
    "pairs": 100,
    "accuracy": 0.7,
    "margin": 0.2,
    "chosen": {"before": 3.0, "after": 2.9},
    "rejected": {"before": 3.0, "after": 3.2},
}


@pytest.mark.parametrize(
    ("held", "good", "said", "advice"),
    [
        (PAIRS, True, "chosen reply in 70%", ""),
        (PAIRS | {"accuracy": 0.55}, False, "no more than chance", "Give it more pairs"),
        (PAIRS | {"chosen": {"before": 3.0, "after": 3.1}}, False, "unlikelier too", "`prefer.dpo.chosen_weight`"),
        (None, False, "none is held out", "`instruct.validation_fraction`"),
    ],
)
def test_what_pairs_taught_is_held_against_chance(held: Any, good: bool, said: str, advice: str) -> None:
    found = finding("preferences", {"prefer/pairs": 900, "prefer/held_out_pairs": held})
    assert found.good == good
    assert said in found.text
    assert advice in found.advice


def test_learning_by_heart_is_seen_in_the_curve() -> None:
    found = finding("learn", {}, {"pretrain": {"validation_bits_per_byte": [2.0, 1.5, None, 1.8]}})
    assert not found.good
    assert "1.500" in found.text
    assert "1.800" in found.text


def test_that_tuning_made_documents_worse_is_said() -> None:
    assert "1.600 before, 1.700 after, the price" in finding("tuning", {}).text
    better = finding("tuning", {"evaluate/finetune/conversations/bits_per_byte": 1.5}).text
    assert "1.600 before, 1.500 after." in better


def test_a_base_model_is_no_failure() -> None:
    found = finding("tuning", {"evaluate/model": "base", "evaluate/replies": None})
    assert found.good
    assert "instruct.files" in found.advice


def test_what_was_not_measured_is_passed_over() -> None:
    metrics = copy.deepcopy(GOOD)
    del metrics["evaluate"]["replies"], metrics["prefer"]["held_out"]
    metrics["pretrain"] = {}
    metrics["clean"]["documents_in"] = 0
    assert [finding.question for finding in findings(metrics, {})] == [
        "Did the model learn?",
        "What does its size cost?",
    ]


def test_keys_are_shown_as_code_and_nothing_else_is_markup() -> None:
    from tasks.report.page import code_to_html

    assert code_to_html("Set `a.b`, not <b>`c`</b>") == "Set <code>a.b</code>, not &lt;b&gt;<code>c</code>&lt;/b&gt;"
