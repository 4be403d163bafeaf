"""What a plan warns of: too little text, too large a vocabulary, a law outside its range, too little memory."""

from typing import Any

from tasks.architectures.memory import flops_per_token
from tasks.plan.devices import DEVICES
from tasks.plan.hardware import room_bytes
from tasks.plan.laws import REPEATED_TOKENS, diminishing
from tasks.plan.planner import NEAR, OVER_BUDGET, Planned, Planner

LARGEST_HEAD = 0.5
"""Share of the arithmetic in the output head above which the vocabulary is large for the model."""
LEAST_WORTH = 0.97
"""What a token of the run must be worth of a new one, on average, for repeats to need no word."""


def warnings(planner: Planner, run: Planned, budget: float, memory: list[dict[str, Any]], zero_stage: int) -> list[str]:
    """One sentence or two each; none where all is well."""
    found = [
        *_text(planner, run, budget),
        *_vocabulary(planner, run),
        *_range(planner, run),
        *_memory(planner, memory, zero_stage),
    ]
    if run.flops > OVER_BUDGET * budget:
        found.insert(0, f"The run costs {run.flops:.2g} FLOPs, more than the budget of {budget:.2g}.")
    return found


def family_warning(family: str | None) -> list[str]:
    """Sizes and memory are those of a decoder with SwiGLU; of the other families they are near."""
    if family in (None, "llama", "mistral", "qwen3"):
        return []
    return [f"Parameters, arithmetic and memory are counted as llama's: those of {family} differ."]


def _text(planner: Planner, run: Planned, budget: float) -> list[str]:
    unique = planner.text.row_tokens
    epochs = run.tokens / unique
    found = []
    if epochs > 1:
        worth = diminishing(run.tokens, unique, REPEATED_TOKENS) / run.tokens
        if worth < LEAST_WORTH:
            found.append(
                f"The text is passed over {epochs:.1f} times: a token of the run is worth {worth:.0%} of a new one "
                "(arXiv:2305.16264). More text, or a smaller budget."
            )
    if run.flops < budget / OVER_BUDGET and epochs > 0.95 * planner.params.max_epochs:
        found.append(
            f"{run.flops / budget:.0%} of the budget is spent: plan.max_epochs ({planner.params.max_epochs:g}) allows "
            f"{run.tokens:,} tokens of {unique:,} that there are. More text, or a larger max_epochs."
        )
    return found


def _vocabulary(planner: Planner, run: Planned) -> list[str]:
    share = 6 * run.parameters.head / flops_per_token(run.shape, run.parameters)
    if share <= LARGEST_HEAD:
        return []
    return [
        f"The vocabulary is large for the budget: {share:.0%} of the arithmetic is in the output head of "
        f"{run.shape.vocabulary_size:,} tokens. A smaller tokenizer.vocab_size (tokenizer.compare compares several)."
    ]


def _range(planner: Planner, run: Planned) -> list[str]:
    low, high = planner.law.flops_range
    found = []
    if not low / NEAR <= run.flops <= high * NEAR:
        expected = planner.expected(run) is not None
        found.append(
            f"{run.flops:.1e} FLOPs lie outside what {planner.law.source} was fitted to ({low:.1e} to {high:.1e}): "
            + (
                "the prediction is an extrapolation."
                if expected
                else "the shape is an extrapolation, the loss is not predicted."
            )
        )
    found += _fit_range(planner, run)
    fit = planner.fit
    if planner.params.law == "own" and fit:
        trained = (fit.vocabulary_size, fit.context_length)
        if trained != (run.shape.vocabulary_size, run.shape.context_length):
            found.append(
                f"The own fit is of a vocabulary of {trained[0]:,} and a context of {trained[1]:,}: of this one the bits per "
                "byte differ. Fit anew: docs/planning.md."
            )
    return found


def _fit_range(planner: Planner, run: Planned) -> list[str]:
    """Of own fits, size and tokens as well: a budget within their range can be spent in a way that none of the runs was."""
    if planner.params.law != "own" or planner.fit is None:
        return []
    found = []
    sizes = (
        ("parameters", planner.size(run.parameters), planner.fit.parameters),
        ("tokens", run.tokens, planner.fit.tokens),
    )
    for what, value, (low, high) in sizes:
        if not low / NEAR <= value <= high * NEAR:
            found.append(
                f"{value:,} {what} are outside what the own fit's runs had ({low:,.0f} to {high:,.0f}): an extrapolation."
            )
    return found


def _memory(planner: Planner, memory: list[dict[str, Any]], zero_stage: int) -> list[str]:
    device = DEVICES[planner.params.device]
    room, needed = room_bytes(device), memory[zero_stage]["total_bytes"]
    if room is None or needed <= room:
        return []
    fitting = [row["zero_stage"] for row in memory if row["total_bytes"] <= room]
    advice = f"zero_stage {fitting[0]} fits" if fitting else "lower micro_batch_rows, or take more devices"
    return [
        f"{needed / 2**30:.1f} GiB a device are needed at pretrain.zero_stage {zero_stage}, {device.name} has room for "
        f"{room / 2**30:.1f}: {advice}."
    ]
