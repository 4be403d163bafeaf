"""What the numbers mean: is the data good, did the model learn, what next. Each finding names its numbers and the key to change."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.report.results import ASKED_ABOUT, is_restorer, restored_results

Metrics = Mapping[str, Any]
Curve = Mapping[str, Sequence[float | None]]
FILTERING_STAGES = ("clean", "dedup", "decontaminate")
MAX_SHARE_OF_ONE_REASON = 0.5
"""Share of a stage's documents above which one reason for removal is a mistake of the settings as likely as of the data."""
TOKENS_PER_PARAMETER = 20
"""What makes the best of a given amount of arithmetic (Hoffmann et al. 2022, arXiv:2203.15556)."""
MAX_EPOCHS = 4
"""Passes over the same text after which another is worth much less than new text (Muennighoff et al. 2023, arXiv:2305.16264)."""
NORMAL_95 = 1.96
"""Standard deviations on either side that hold 95% of a normal distribution."""
DEARER = 0.05
"""Nats a token by which chosen replies may get dearer in learning what tells them apart."""
UNREWARDED = ("echoes", "role_markers")
"""What is measured of replies and not rewarded: the less the better."""
OVERFITTING_RATIO = 1.01
"""Last validation over the best one above which the model has begun to learn its training text by heart."""


@dataclass(frozen=True)
class Finding:
    """One rule's outcome.

    Attributes:
        good: whether there is nothing to do about it.
        text: what was found, with its numbers.
        advice: what to change, and its key in params.yaml; empty where there is nothing.
    """

    question: str
    good: bool
    text: str
    advice: str = ""


def findings(metrics: Metrics, curves: Mapping[str, Curve]) -> list[Finding]:
    """Three to six findings; what was not measured is passed over."""
    told = (tuning(metrics["evaluate"]), preferences(metrics.get("prefer", {}), metrics["evaluate"]))
    found = (_data(metrics), _amount(metrics), _learned(metrics, curves), *told, _size(metrics))
    return [finding for finding in found if finding]


def _data(metrics: Metrics) -> Finding | None:
    before, after = metrics["clean"]["documents_in"], metrics["decontaminate"]["documents_out"]
    if not before:
        return None
    removed = [
        (count / metrics[stage]["documents_in"], count, stage, reason)
        for stage in FILTERING_STAGES
        for reason, count in metrics[stage].get("removed", {}).items()
        if count
    ]
    text = f"{after:,} of {before:,} documents stay ({after / before:.0%})"
    if not removed:
        return Finding("Is the data good?", True, f"{text}.")
    share, count, stage, reason = max(removed)
    text += f"; most went in {stage}: {count:,} for {reason} ({share:.0%} of what it read)."
    if share <= MAX_SHARE_OF_ONE_REASON:
        return Finding("Is the data good?", True, text)
    return Finding(
        "Is the data good?", False, text, f"Look at the examples of {reason} below; the settings are `{stage}`."
    )


def _amount(metrics: Metrics) -> Finding | None:
    pretrain, packed = metrics["pretrain"], metrics["pack"]["train"]["tokens"]
    parameters, epochs = pretrain.get("parameters"), pretrain.get("epochs")
    if not parameters or epochs is None:
        return None
    seen = pretrain["tokens"]
    text = (
        f"{packed:,} tokens to train on, of which the model of {parameters:,} parameters saw {seen:,} "
        f"({epochs:.2g} passes, {seen / parameters:.2g} tokens a parameter; about {TOKENS_PER_PARAMETER} make the best of the arithmetic)."
    )
    question = "Is there enough of it?"
    if epochs > MAX_EPOCHS:
        more = "Add text (`scrape.sources`), or take a smaller model (`pretrain.layers`, `pretrain.hidden`): more passes gain little."
        return Finding(question, False, text, more)
    if seen < TOKENS_PER_PARAMETER * parameters:
        room = epochs < 1 or packed * MAX_EPOCHS >= TOKENS_PER_PARAMETER * parameters
        more = (
            "Train longer (`plan.flops`, or `pretrain.steps`)."
            if room
            else "Add text (`scrape.sources`), or take a smaller model."
        )
        return Finding(question, False, text, more)
    return Finding(question, True, text)


def _learned(metrics: Metrics, curves: Mapping[str, Curve]) -> Finding | None:
    evaluated, question = metrics["evaluate"], "Did the model learn?"
    if is_restorer(evaluated):
        return _restores(evaluated, question)
    bits, xz = evaluated.get("validation_bits_per_byte"), evaluated.get("xz_bits_per_byte")
    if bits is None or xz is None:
        why = (evaluated.get("not_measured") or {}).get("validation_bits_per_byte", "nothing is held out")
        return Finding(question, False, f"Not measured: {why}.", "Hold text out: `instruct.validation_fraction`.")
    where = evaluated.get("validation_text") or "all"
    text = f"{bits:.3f} bits per byte on held-out text ({where}), xz -9e {xz:.3f}: lower is better."
    measured = [v for v in curves.get("pretrain", {}).get("validation_bits_per_byte", []) if v is not None]
    if measured and measured[-1] > OVERFITTING_RATIO * min(measured):
        text += f" While training it was {min(measured):.3f} and rose to {measured[-1]:.3f}: it learns the training text by heart."
        return Finding(
            question,
            False,
            text,
            "Fewer steps (`plan.max_epochs`, or `pretrain.steps`) or more text (`scrape.sources`).",
        )
    if bits >= xz:
        return Finding(
            question,
            False,
            text,
            "Train longer (`plan.flops`, or `pretrain.steps`), or look at `pretrain.learning_rate`.",
        )
    return Finding(question, True, text)


def _restores(evaluated: Metrics, question: str) -> Finding:
    rows = restored_results(evaluated)
    if not rows:
        why = (evaluated.get("not_measured") or {}).get(evaluated["objective"], "nothing is held out")
        return Finding(question, False, f"Not measured: {why}.", "Hold text out: `instruct.validation_fraction`.")
    row = rows[0]
    text = (
        f"{row.accuracy:.1%} of {row.answers:,} {ASKED_ABOUT[evaluated['objective']]} of held-out text are right; always the most "
        f"frequent answer: {row.majority:.1%}."
    )
    if row.bits is None or row.frequencies is None:
        return Finding(question, row.accuracy > row.majority, text)
    text += (
        f" They cost {row.bits:.3f} bits per byte, by their frequencies alone {row.frequencies:.3f}: lower is better."
    )
    if row.bits >= row.frequencies:
        advice = "Train longer (`plan.flops`, or `pretrain.steps`), or look at `pretrain.learning_rate`."
        return Finding(question, False, text, advice)
    return Finding(question, True, text)


def tuning(evaluated: Metrics) -> Finding | None:
    """What tuning gave, and what it took, from what evaluate measured; of what is never tuned, nothing."""
    question = "Did tuning help?"
    if is_restorer(evaluated):
        return None
    replies = evaluated.get("replies")
    if evaluated.get("model", "tuned") != "tuned":
        advice = "For a chat: conversations in `scrape.sources` or `instruct.files`."
        return Finding(
            question, True, "There was nothing to tune on: this is a base model, which continues text.", advice
        )
    if not replies:
        return None
    before, after = (replies[name]["bits_per_byte"] for name in ("pretrain", "finetune"))
    text = f"Replies in held-out conversations: {before:.3f} bits per byte before, {after:.3f} after."
    gain = (evaluated.get("gains") or {}).get("replies")
    if gain:
        text += f" After all tuning: {gain['difference']:+.3f} (95%: {gain['low']:+.3f} to {gain['high']:+.3f})."
    if bits := documents_before_and_after(evaluated):
        text += f" The same text as documents: {bits[0]:.3f} before, {bits[1]:.3f} after"
        text += ", the price of the chat's form." if bits[1] > bits[0] else "."
    if after < before and (gain is None or gain["high"] < 0):
        return Finding(question, True, text)
    if gain and gain["low"] <= 0 <= gain["high"]:
        text += " That is no more than the choice of conversations may give."
    return Finding(question, False, text, "Lower `finetune.learning_rate`, or give it more conversations.")


def preferences(measured: Metrics, evaluated: Metrics) -> Finding | None:
    """What preference tuning changed of replies, and how far it moved the model; nothing where it was not measured."""
    if measured.get("pairs"):
        return pairs(measured)
    held = measured.get("held_out")
    if not held:
        return None
    before, after, people = (held[name] for name in ("before", "after", "people"))
    text = (
        f"Of {held['contexts']} replies in held-out conversations {before['ended']:.0%} ended before, {after['ended']:.0%} "
        f"after, with {before['words']:.1f} and {after['words']:.1f} words (people's: {people['words']:.1f}). The checks' reward is "
        f"{before['reward']:.2f} and {after['reward']:.2f} (people's: {people['reward']:.2f}): it is for form, not for content. "
        f"KL {held['kl']:.2f} nats a token."
    )
    replies = evaluated.get("replies") or {}
    if {"finetune", "prefer"} <= replies.keys():
        loss = [replies[name]["loss"] for name in ("finetune", "prefer")]
        text += f" What people replied costs {loss[0]:.2f} and {loss[1]:.2f} nats a token."
    worse = [name for name in UNREWARDED if after[name] > before[name] + 0.02]
    if after["distinct_pairs"] < 0.8 * before["distinct_pairs"]:
        worse.append("sameness")
    if after["reward"] > before["reward"] and not worse:
        return Finding("Did the rewards help?", True, text)
    drawn_once = "contexts_that_differ" in measured
    if not worse:
        advice = "Raise `prefer.grpo.steps`, `samples` or `learning_rate`."
        once = "Raise `prefer.best_of_n.contexts` or `samples`, or `prefer.dpo.learning_rate`."
        return Finding("Did the rewards help?", False, text, once if drawn_once else advice)
    text += f" What no reward is given for has got worse: {', '.join(name.replace('_', ' ') for name in worse)}."
    advice = "Raise `prefer.grpo.beta`, or lower its `learning_rate` or `steps`."
    if drawn_once:
        advice = "Raise `prefer.dpo.beta`, or lower its `learning_rate` or `epochs`."
    return Finding("Did the rewards help?", False, text, advice)


def pairs(measured: Metrics) -> Finding | None:
    """Whether held-out pairs are told apart better than by chance, and what that cost; nothing where none is held out."""
    held, question = measured["held_out_pairs"], "Did the preferences help?"
    if not held:
        advice = "Give it more pairs, or raise `instruct.validation_fraction`."
        return Finding(question, False, f"Tuned on {measured['pairs']} pairs; none is held out to measure on.", advice)
    chosen, rejected = held["chosen"], held["rejected"]
    text = (
        f"Of {held['pairs']} held-out pairs the model has come to prefer the chosen reply in {held['accuracy']:.0%} (chance: 50%). "
        f"Chosen replies cost {chosen['before']:.2f} nats a token before and {chosen['after']:.2f} after, rejected ones "
        f"{rejected['before']:.2f} and {rejected['after']:.2f}."
    )
    if replies := measured.get("held_out"):
        before, after = replies["before"], replies["after"]
        text += (
            f" Of {replies['contexts']} replies {before['ended']:.0%} ended before and {after['ended']:.0%} after, with "
            f"{before['words']:.1f} and {after['words']:.1f} words. KL {replies['kl']:.2f} nats a token."
        )
    if held["accuracy"] - NORMAL_95 * math.sqrt(0.25 / held["pairs"]) <= 0.5:
        advice = "Give it more pairs, or raise `prefer.dpo.epochs` or `learning_rate`."
        return Finding(question, False, f"{text} That is no more than chance may give.", advice)
    if chosen["after"] > chosen["before"] + DEARER:
        advice = "Raise `prefer.dpo.chosen_weight` or `beta`, or lower `learning_rate`."
        return Finding(question, False, f"{text} What people liked has become unlikelier too.", advice)
    return Finding(question, True, text)


def documents_before_and_after(evaluated: Metrics) -> tuple[float, float] | None:
    """Bits per byte of the base and the tuned model on the text that `validation_text` names; None where not measured."""
    where = evaluated.get("validation_text")
    try:
        return tuple(evaluated[name][where]["bits_per_byte"] for name in ("pretrain", "finetune"))  # type: ignore[return-value]
    except (KeyError, TypeError):
        return None


def _size(metrics: Metrics) -> Finding | None:
    quantized = metrics["quantize"]
    reference = quantized["reference"]["bits_per_byte"]
    if not quantized["formats"]:
        return None
    cost = {name: form["bits_per_byte"] - reference for name, form in quantized["formats"].items()}
    name = min(quantized["formats"], key=lambda name: quantized["formats"][name]["bytes"])
    share = cost[name] / reference
    text = f"{name}, the smallest format, costs {cost[name]:+.4f} bits per byte ({share:+.1%}) on the same text."
    if share < 0.02:
        return Finding("What does its size cost?", True, text)
    return Finding("What does its size cost?", False, text, "Serve a larger format (`quantize.formats`).")
