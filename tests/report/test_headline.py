"""The headline figures: flat, few, each the number of the stage that measured it; what was not measured is left out."""

import itertools
from typing import Any

from tasks.report.headline import METRIC_PATHS, headline

METRICS: dict[str, Any] = {
    "scrape": {"documents": 30, "pages": 4, "bytes": 9},
    "decontaminate": {"documents_out": 20},
    "pack": {"train": {"tokens": 700}},
    "tokenizer": {"vocabulary_size": 64, "validation": {"bytes_per_token": 3.5}},
    "pretrain": {"parameters": 7, "tokens": 500, "training_loss": 2.5},
    "finetune": {"loss_last": 2.25},
    "evaluate": {
        "validation_text": "conversations",
        "validation_bits_per_byte": 1.5,
        "xz_bits_per_byte": 2.0,
        "finetune": {"all": {"bits_per_byte": 1.9}, "conversations": {"bits_per_byte": 1.75}},
        "replies": {"pretrain": {"bits_per_byte": 2.5}, "finetune": {"bits_per_byte": 1.25}},
        "questions": {"f1": 0.5, "rougeL": 0.25},
    },
    "prefer": {"held_out": {"after": {"ended": 0.875, "reward": 0.625}}},
    "quantize": {"formats": {"f16": {"bytes": 50}, "q4_0": {"bytes": 15}}},
}


def test_headline_figures_are_flat_and_of_the_stage_that_measured_them() -> None:
    assert headline(METRICS) == {
        "answers_f1": 0.5,
        "bytes_per_token": 3.5,
        "documents": 20,
        "documents_read": 34,
        "model_bytes": 15,
        "parameters": 7,
        "replies_ended": 0.875,
        "replies_reward": 0.625,
        "reply_bits_per_byte": 1.25,
        "tokens": 700,
        "tokens_trained_on": 500,
        "training_loss": 2.5,
        "tuned_bits_per_byte": 1.75,
        "validation_bits_per_byte": 1.5,
        "vocabulary_size": 64,
        "xz_bits_per_byte": 2.0,
    }
    assert len(headline(METRICS)) == len(METRIC_PATHS) + 3


def test_what_was_not_measured_is_left_out() -> None:
    """Whatever is missing: a figure is there with the value that it has in the whole, or not at all."""
    whole = headline(METRICS)
    for count in range(len(METRICS) + 1):
        for stages in itertools.combinations(METRICS, count):
            part = headline({stage: METRICS[stage] for stage in stages})
            assert part.items() <= whole.items()
    unmeasured = METRICS | {"evaluate": {"validation_bits_per_byte": None, "not_measured": {}}, "quantize": {}}
    assert not {"validation_bits_per_byte", "tuned_bits_per_byte", "model_bytes"} & headline(unmeasured).keys()
