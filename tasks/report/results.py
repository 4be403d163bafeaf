"""What evaluation measured, a row a text: which text, which unit, and each model beside xz."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, Any]
Score = tuple[str, float, float | None]


@dataclass(frozen=True)
class TextResult:
    """Bits per UTF-8 byte of held-out text; None where it was not measured.

    Attributes:
        text: what was scored, and in which form.
        base: of the pretrained model.
        tuned: of the tuned model; None where nothing was tuned.
        xz: of `xz -9e` on the same text.
    """

    text: str
    base: float
    tuned: float | None
    xz: float | None = None


@dataclass(frozen=True)
class RestoredResult:
    """What an encoder or encoder-decoder said of corrupted held-out text; None where there is no such number.

    Attributes:
        text: which text.
        answers: how many tokens were asked about.
        accuracy: share of right answers; `majority` that of always the most frequent one.
        bits: bits per byte of the text asked about; `frequencies` what no guess by frequencies goes below.
        f1: of replaced tokens.
    """

    text: str
    answers: int
    accuracy: float
    majority: float
    bits: float | None
    frequencies: float | None
    f1: float | None


ASKED_ABOUT = {
    "masked": "masked tokens",
    "replaced_token": "tokens, told as replaced or not",
    "span_corruption": "tokens of dropped spans",
    "denoising": "tokens of masked spans",
}
"""Objectives of models that are no decoders, and what of a text they are asked."""


def restored_results(evaluated: Metrics) -> list[RestoredResult]:
    """All held-out text, then each source, under an encoder or encoder-decoder; empty of a decoder and where nothing was measured."""
    found = evaluated.get(evaluated.get("objective", "causal"))
    if not found:
        return []
    by_source = [(f"documents of {name}", measured) for name, measured in found["by_source"].items()]
    return [
        RestoredResult(
            text,
            row["answers"],
            row["accuracy"],
            row["majority"],
            row["bits_per_byte"],
            row["frequencies_bits_per_byte"],
            row.get("f1"),
        )
        for text, row in [("all documents", found["all"]), *by_source]
    ]


def is_restorer(measured: Metrics) -> bool:
    """Whether what evaluate or quantize measured is an encoder or encoder-decoder."""
    return measured.get("objective", "causal") in ASKED_ABOUT


def is_tuned(measured: Metrics) -> bool:
    """Whether what evaluate or quantize measured is a tuned model; else it is the base model."""
    return bool(measured.get("model", "tuned") == "tuned")


def last_tuned(evaluated: Metrics) -> str | None:
    """The stage whose tuned model is the one that is chatted with; None where that is the base model."""
    if not is_tuned(evaluated):
        return None
    return "prefer" if "prefer" in evaluated else "finetune"


def text_results(evaluated: Metrics) -> list[TextResult]:
    """Replies first, for which a chat is made; then all held-out text as documents, its conversations and each source."""
    last = last_tuned(evaluated)
    tuned = evaluated.get(last) if last else None
    rows = []
    if replies := evaluated.get("replies"):
        after = replies[last]["bits_per_byte"] if last and tuned else None
        rows.append(TextResult("replies in conversations, in chat form", replies["pretrain"]["bits_per_byte"], after))
    if evaluated.get("validation_bits_per_byte") is None:
        return rows
    base, xz = evaluated["pretrain"], evaluated["xz"]
    groups = [(f"{name} documents" if name == "all" else f"{name}, as documents", name) for name in base]
    for text, name in groups:
        if name != "by_source":
            after = tuned[name]["bits_per_byte"] if tuned else None
            rows.append(TextResult(text, base[name]["bits_per_byte"], after, xz[name]))
    for name, found in base["by_source"].items():
        after = tuned["by_source"][name]["bits_per_byte"] if tuned else None
        rows.append(TextResult(f"documents of {name}", found["bits_per_byte"], after, xz["by_source"][name]))
    return rows


def evaluation_set_results(evaluated: Metrics) -> list[tuple[str, str, int, list[Score]]]:
    """(file, kind, items, measures) of the user's own evaluation set, of the model that is chatted with; a measure is its name,
    value and standard error.
    """
    model = last_tuned(evaluated) or "pretrain"
    rows: list[tuple[str, str, int, list[Score]]] = []
    for file, kinds in (evaluated.get("own_set") or {}).items():
        for kind, found in kinds.items():
            scores: list[Score]
            if kind == "texts":
                scores = [("bits per byte", found[model]["bits_per_byte"], None), ("of xz -9e", found["xz"], None)]
                rows.append((file, kind, found[model]["documents"], scores))
            else:
                names = [name for name in found if name != "asked" and not name.endswith("_stderr")]
                scores = [(name, found[name], found.get(f"{name}_stderr")) for name in names]
                rows.append((file, kind, found["asked"], scores))
    return rows
