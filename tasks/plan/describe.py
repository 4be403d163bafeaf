"""The plan in words and numbers: plan.json, its headline figures, and the lines of the log."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.architectures.memory import GIB, flops_per_token
from tasks.core.errors import UserError
from tasks.core.params import read_yaml
from tasks.plan import hardware
from tasks.plan.params import PlanParams
from tasks.plan.plan_warnings import family_warning, warnings
from tasks.plan.planner import Given, Planned, Planner, Text
from tasks.plan.shapes import SHAPE_KEYS


def read_text(path: Path) -> Text:
    """What pack's metrics say of the text.

    Raises:
        UserError: they are of another form.
    """
    packed = read_yaml(path)  # JSON is YAML, and this reader explains what is wrong with a file
    try:
        train = packed["train"]
        sizes = packed["vocabulary_size"], packed["context_length"], train["tokens"], train["rows"]
        return Text(*sizes, mixed="mixture" in packed)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: has no {error}. Make it again: dvc repro --force pack") from None


def budget_flops(params: PlanParams) -> float:
    """The budget in floating point operations, whatever it was named in."""
    if params.flops is not None:
        return params.flops
    paid = (params.money or 0.0) / (params.price or 1.0)
    hours = paid if params.hours is None else params.hours * params.devices
    return hours * 3600 / hardware.seconds(1.0, params.device, 1, params.mfu)


def described(
    planner: Planner, budget: float, given: Given, pretrain: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values for pretrain, and the content of plan.json.

    `pretrain`: also micro_batch_rows, optimizer, precision and zero_stage, which memory follows from.
    """
    best = planner.plan(budget, {})
    run = planner.plan(budget, given) if given else best
    rows = max(1, min(pretrain.get("micro_batch_rows") or 8, run.global_batch_tokens // planner.text.context_length))
    optimizer = "muon" if pretrain.get("optimizer") in ("muon", "normuon") else "adamw"
    precision = "bf16" if pretrain.get("precision") in ("bf16", "fp16") else "fp32"  # 16 bits either way
    memory = hardware.by_stage(run.shape, run.parameters, rows, planner.params.devices, optimizer, precision)  # type: ignore[arg-type]
    content = head(planner, budget) | {
        "values": run.values(),
        "run": _run(planner, run),
        "overrides": _overrides(planner, run, best, given),
        "memory": {
            "rows": rows,
            "optimizer": optimizer,
            "precision": precision,
            "ranks": planner.params.devices,
            "zero_stage": pretrain.get("zero_stage") or 0,
            "by_stage": memory,
            "forms": hardware.forms(run.shape, run.parameters),
        },
        "devices": hardware.device_table(run.shape, run.parameters, rows, optimizer),  # type: ignore[arg-type]
        "warnings": [
            *warnings(planner, run, budget, memory, pretrain.get("zero_stage") or 0),
            *family_warning(pretrain.get("family")),
        ],
    }
    return run.values(), content


def head(planner: Planner, budget: float) -> dict[str, Any]:
    params, law = planner.params, planner.law
    return {
        "budget": {
            "flops": short(budget),
            "named": next(name for name in ("flops", "hours", "money") if getattr(params, name) is not None),
            "device": params.device,
            "devices": params.devices,
            "mfu": params.mfu,
        },
        "law": {
            "name": law.name,
            "source": law.source,
            "unit": law.unit,
            "counted": law.counted,
            "flops_range": list(law.flops_range),
        },
        "recipe": params.recipe,
        "text": {
            "tokens": planner.text.tokens,
            "vocabulary_size": planner.text.vocabulary_size,
            "context_length": planner.text.context_length,
        },
    }


def _run(planner: Planner, run: Planned) -> dict[str, Any]:
    parameters = run.parameters
    expected = planner.expected(run)
    return {
        "parameters": parameters.blocks + parameters.head,
        "blocks": parameters.blocks,
        "head": parameters.head,
        "tokens": run.tokens,
        **({"batch_schedule": [phase.model_dump() for phase in run.batch_phases]} if run.batch_phases else {}),
        "tokens_per_parameter": short(run.tokens / (parameters.blocks + parameters.head)),
        "epochs": short(run.tokens / planner.text.row_tokens),
        "flops": short(run.flops),
        "head_share": short(6 * parameters.head / flops_per_token(run.shape, parameters)),
        "seconds": short(
            hardware.seconds(run.flops, planner.params.device, planner.params.devices, planner.params.mfu)
        ),
        "expected": expected
        and {"unit": planner.law.unit, "loss": short(expected[0]), "interval": _interval(expected)},
    }


def _interval(expected: tuple[float, float | None, float | None]) -> list[float] | None:
    _, low, high = expected
    return None if low is None or high is None else [short(low), short(high)]


def _overrides(planner: Planner, run: Planned, best: Planned, given: Given) -> dict[str, Any] | None:
    """What the user's own numbers cost: against the best shape and tokens for the same arithmetic; None where there are none."""
    changed = {key: [value, best.values()[key]] for key, value in given.items() if value != best.values()[key]}
    if not changed:
        return None
    cost = None
    if planner.expected(run):
        same = planner.plan(run.flops, {})
        cost = short(max(0.0, planner.loss(run) - planner.loss(same)))
    of_law = any(key in SHAPE_KEYS or key == "steps" for key in changed)
    return {"given_and_planned": changed, "cost": cost if of_law else 0.0, "unit": planner.law.unit, "of_law": of_law}


def headline(content: dict[str, Any]) -> dict[str, Any]:
    """The metrics: what is planned, and what is expected."""
    run = content["run"]
    expected = run.get("expected")
    numbers: dict[str, Any] = {key: run[key] for key in ("parameters", "tokens", "epochs", "flops")} | content["values"]
    if expected and expected["unit"] == "bits per byte":
        numbers["bits_per_byte"] = expected["loss"]
        if expected["interval"]:
            numbers["bits_per_byte_low"], numbers["bits_per_byte_high"] = expected["interval"]
    return numbers | {"warnings": len(content["warnings"])}


def lines(content: dict[str, Any]) -> list[str]:
    """What a person wants to know at once."""
    run, values, budget = content["run"], content["values"], content["budget"]
    shape = (
        "" if "layers" not in values else f"{values['layers']} layers of {values['hidden']}, {values['heads']} heads, "
    )
    told = [
        f"{run['parameters']:,} parameters, {shape}{run['tokens']:,} tokens ({run['epochs']:.2g} passes) in {values['steps']:,} steps of "
        f"{values['global_batch_tokens']:,}{' at last' if run.get('batch_schedule') else ''}, rate {values['learning_rate']:g}",
        f"{run['flops']:.2g} FLOPs, {duration(run['seconds'])} on {budget['devices']} {budget['device']} at {budget['mfu']:.0%}",
    ]
    if expected := run["expected"]:
        between = " ({:.3f} to {:.3f})".format(*expected["interval"]) if expected["interval"] else ""
        told.append(f"expected: {expected['loss']:.3f} {expected['unit']}{between}, by {content['law']['source']}")
    if overrides := content.get("overrides"):
        keys = ", ".join(f"{key} {own} (planned {best})" for key, (own, best) in overrides["given_and_planned"].items())
        cost = overrides["cost"]
        told.append(
            f"own numbers: {keys}" + (f"; they cost {cost:.4f} {overrides['unit']}" if cost is not None else "")
        )
    if memory := content.get("memory"):
        row = memory["by_stage"][memory["zero_stage"]]
        told.append(
            f"{row['total_bytes'] / GIB:.2f} GiB a device at ZeRO stage {memory['zero_stage']} in {memory['precision']}"
        )
    return told


def duration(seconds: float) -> str:
    """As people read it."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def short(value: float) -> float:
    """Six digits: the same on every machine."""
    return float(f"{value:.6g}")
