"""The headline figures of a run: a few flat names that a person sorts by, taken from the metrics of all stages."""

from collections.abc import Mapping
from typing import Any

Metrics = Mapping[str, Any]
Figures = dict[str, float]

METRIC_PATHS = {
    "documents": "decontaminate/documents_out",
    "tokens": "pack/train/tokens",
    "vocabulary_size": "tokenizer/vocabulary_size",
    "bytes_per_token": "tokenizer/validation/bytes_per_token",
    "parameters": "pretrain/parameters",
    "tokens_trained_on": "pretrain/tokens",
    "training_loss": "pretrain/training_loss",
    "validation_bits_per_byte": "evaluate/validation_bits_per_byte",
    "xz_bits_per_byte": "evaluate/xz_bits_per_byte",
    "reply_bits_per_byte": "evaluate/replies/finetune/bits_per_byte",
    "replies_ended": "prefer/held_out/after/ended",
    "replies_reward": "prefer/held_out/after/reward",
    "answers_f1": "evaluate/questions/f1",
}
"""Figures that are one number of one stage: `<stage>/<name>/...`."""


def headline(metrics: Metrics) -> Figures:
    """The figures of a run from `metrics`, stage → what it measured; what was not measured is left out.

    Beside `METRIC_PATHS`: `documents_read` (pages and documents that scrape read), `tuned_bits_per_byte` (on the same text as
    `validation_bits_per_byte` and `xz_bits_per_byte`) and `model_bytes` (of the smallest format). Of encoders and encoder-decoders
    `<objective>_accuracy`, `<objective>_bits_per_byte` and `replaced_token_f1`.
    """
    text = _at(metrics, "evaluate/validation_text")
    objective = _at(metrics, "evaluate/objective")
    restored = {
        f"{objective}_{name}": _at(metrics, f"evaluate/{objective}/all/{name}")
        for name in ("accuracy", "bits_per_byte", "f1")
    }
    found = (
        restored
        | {name: _at(metrics, place) for name, place in METRIC_PATHS.items()}
        | {
            "documents_read": _read(metrics),
            "tuned_bits_per_byte": _at(metrics, f"evaluate/finetune/{text}/bits_per_byte"),
            "model_bytes": min(_sizes(metrics), default=None),
        }
    )
    return {name: value for name, value in sorted(found.items()) if isinstance(value, int | float)}


def _at(metrics: Metrics, place: str) -> Any:
    node: Any = metrics
    for part in place.split("/"):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _read(metrics: Metrics) -> int | None:
    counts = [_at(metrics, "scrape/documents"), _at(metrics, "scrape/pages")]
    return sum(count or 0 for count in counts) if any(count is not None for count in counts) else None


def _sizes(metrics: Metrics) -> list[float]:
    formats = _at(metrics, "quantize/formats")
    return [form["bytes"] for form in formats.values()] if isinstance(formats, Mapping) else []
