"""`python -m flows.dry_run --ranks 64`: what pretrain would do, without a device, weights or text: params.yaml and pack.json alone.

Shapes of the weights, parameters, rows a rank and accumulation, steps and tokens, arithmetic, memory a rank by ZeRO stage.
"""

import argparse
import logging
import re
import sys
from pathlib import Path
from typing import Any

from tasks.architectures import memory
from tasks.architectures.flops import multiplying_parameters, training_flops_per_token
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.params import read_yaml, validate
from tasks.model.adopted_model import adopted_model
from tasks.pretrain.checks.packed_input import check_batch
from tasks.pretrain.data_loader import split_rows
from tasks.pretrain.outline import llama_shape, outline_model
from tasks.pretrain.params import PlannedParams, PretrainParams
from tasks.pretrain.planned import planned_params

LAYER = re.compile(r"\.(\d+)\.")
"""The number of a block in the name of a weight."""
STAGES = (0, 1, 2, 3)


def main(arguments: list[str] | None = None) -> int:
    """Print the description; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.dry_run", description="What pretrain would do on N ranks.")
    parser.add_argument("--ranks", type=int, default=1, help="training processes, over all machines")
    options = parser.parse_args(arguments)
    for chatty in ("torchao", "torch.utils._pytree"):  # they warn of GPU kernels that a machine without one lacks
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        if options.ranks < 1:
            raise UserError(f"--ranks: must be 1 or more, got {options.ranks}")
        print(describe(Path.cwd(), options.ranks))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


def describe(root: Path, ranks: int) -> str:
    """The run that params.yaml of the project in `root` asks for, on `ranks` ranks.

    Raises:
        UserError: mistaken parameters, no data/pack yet, a batch that the ranks cannot share.
    """
    given = read_yaml(root / "params.yaml").get("pretrain") or {}
    plan = root / "data/plan/planned.json"
    given_params = validate(PretrainParams, given, "params.yaml: pretrain")
    params = planned_params(given_params, plan if plan.exists() else None).at_length()
    pack = root / "data/pack/pack.json"
    if not pack.exists():
        raise UserError(f"{pack}: no such file: it says the vocabulary and the context. Make it: dvc repro pack")
    packed = read_yaml(pack)
    context: int = packed["context_length"]
    check_batch(params, context, ranks)
    model = _model(root, params, packed)
    parameters = sum(weight.numel() for weight in model.parameters())
    rows = params.global_batch_tokens // context
    at_once, accumulated = split_rows(rows // ranks, params.micro_batch_rows)
    flops = training_flops_per_token(model.config, multiplying_parameters(model), context)
    tokens = params.batch_tokens.before(params.steps)
    lines = [
        f"pretrain on {ranks} {'rank' if ranks == 1 else 'ranks'}; nothing is trained, no device is touched",
        "",
        f"model         {type(model).__name__}, {parameters:,} parameters, context {context:,}, {params.precision}",
        f"step          {params.global_batch_tokens:,} tokens = {rows:,} rows; a rank has {rows // ranks:,}: {at_once} at a time, "
        f"accumulated {accumulated} times",
        *(
            f"  until {phase.until_step:<8,}{phase.global_batch_tokens:,} tokens"
            for phase in params.batch_schedule or ()
        ),
        *(
            f"  until {phase.until_step:<8,}rows of {phase.context_length:,} tokens (the arithmetic below is of whole ones)"
            for phase in params.context_schedule or ()
        ),
        f"run           {params.steps:,} steps, {tokens:,} tokens ({tokens / parameters:,.1f} a parameter)",
        f"arithmetic    {flops:,} FLOPs a token, {flops * tokens:.3g} in all (6N + 12·L·H·Q·T)",
        *_memory(params, model, packed, ranks, at_once),
        "",
        "weights",
        *(f"  {name:<58}{shape}" for name, shape in _shapes(model)),
    ]
    return "\n".join(lines)


def _model(root: Path, params: PlannedParams, packed: dict[str, Any]) -> Any:
    """The model on the device `meta`: shapes without numbers."""
    if not params.start_from:
        return outline_model(params, packed, None)
    folder = root / "data/tokenizer"
    if not folder.exists():
        raise UserError(f"{folder}: no such folder: it says the model to start from. Make it: dvc repro tokenizer")
    return outline_model(params, packed, adopted_model(folder))


def _shapes(model: Any) -> list[tuple[str, str]]:
    """Name and shape of each weight; those that all blocks have alike stand once."""
    found: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, weight in model.named_parameters():
        number = LAYER.search(name)
        found.setdefault((LAYER.sub(".*.", name), tuple(weight.shape)), []).append(number[1] if number else "")
    return [(name, f"{list(shape)}{f' × {len(where)}' if where[0] else ''}") for (name, shape), where in found.items()]


def _memory(params: PlannedParams, model: Any, packed: dict[str, Any], ranks: int, rows: int) -> list[str]:
    """GB that a rank needs by ZeRO stage, as the planner forecasts them."""
    shape = llama_shape(model, packed["context_length"])
    if shape is None:
        return ["memory        not forecast: the planner's arithmetic is of Llama's blocks"]
    counted = memory.count_parameters(shape, tied=model.config.tie_word_embeddings)
    heads = ("weights", "gradients", "optimizer", "activations", "in all")
    widths = (12, 11, 11, 13, 11)
    lines = [
        f"memory        GB a rank {''.join(f'{head:>{width}}' for head, width in zip(heads, widths, strict=True))}"
    ]
    for stage in STAGES:
        if params.precision != "fp32" and stage == 0:
            continue  # it is refused
        need = memory.training_memory(
            shape,
            counted,
            rows=rows,
            optimizer="adamw" if params.optimizer == "adamw" else "muon",
            precision="fp32" if params.precision == "fp32" else "bf16",
            zero_stage=stage,
            ranks=ranks,
        )
        parts = (need.weights, need.gradients, need.optimizer, need.activations, need.total)
        columns = "".join(f"{part / 1e9:>{width}.3f}" for part, width in zip(parts, widths, strict=True))
        here = "  <- params.yaml" if stage == params.zero_stage else ""
        lines.append(f"  ZeRO {stage}                {columns}{here}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
