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
from tasks.architectures.building.create import create_config, model_class
from tasks.architectures.building.electra import ReplacedTokenModel
from tasks.architectures.families.choices import Architecture
from tasks.architectures.flops import multiplying_parameters, training_flops_per_token
from tasks.architectures.shape import Shape
from tasks.architectures.shape_checks import require_objective
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.params import read_yaml, validate
from tasks.model.adopted_model import adopted_model
from tasks.pretrain.objectives.build import objective_ids
from tasks.pretrain.packed_input import check_batch
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
    rank_rows = rows // ranks
    at_once = max(size for size in range(1, min(params.micro_batch_rows, rank_rows) + 1) if rank_rows % size == 0)
    flops = training_flops_per_token(model.config, multiplying_parameters(model), context)
    tokens = params.steps * params.global_batch_tokens
    lines = [
        f"pretrain on {ranks} {'rank' if ranks == 1 else 'ranks'}; nothing is trained, no device is touched",
        "",
        f"model         {type(model).__name__}, {parameters:,} parameters, context {context:,}, {params.precision}",
        f"step          {params.global_batch_tokens:,} tokens = {rows:,} rows; a rank has {rank_rows:,}: {at_once} at a time, "
        f"accumulated {rank_rows // at_once} times",
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
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        if params.start_from:
            folder = root / "data/tokenizer"
            if not folder.exists():
                raise UserError(
                    f"{folder}: no such folder: it says the model to start from. Make it: dvc repro tokenizer"
                )
            return AutoModelForCausalLM.from_config(
                AutoConfig.from_pretrained(adopted_model(folder), trust_remote_code=False), trust_remote_code=False
            )
        family, context = params.model_family, packed["context_length"]
        name = require_objective(family, params.objective)
        start = packed["document_start"]
        ids = objective_ids(family, name, params.masking, packed["vocabulary_size"], start, start + 1, context)
        config = create_config(family, params.shape(ids.embedding_rows, context), params.architecture, ids)
        if name == "replaced_token":
            first_weights = Architecture.model_validate({})  # whatever they are
            return ReplacedTokenModel(family, config, params.masking.generator_share, first_weights, params.seed)
        return model_class(family, name)(config)


def _shapes(model: Any) -> list[tuple[str, str]]:
    """Name and shape of each weight; those that all blocks have alike stand once."""
    found: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, weight in model.named_parameters():
        number = LAYER.search(name)
        found.setdefault((LAYER.sub(".*.", name), tuple(weight.shape)), []).append(number[1] if number else "")
    return [(name, f"{list(shape)}{f' × {len(where)}' if where[0] else ''}") for (name, shape), where in found.items()]


def _memory(params: PlannedParams, model: Any, packed: dict[str, Any], ranks: int, rows: int) -> list[str]:
    """GB that a rank needs by ZeRO stage, as the planner forecasts them."""
    config = model.config
    if type(model).__name__ != "LlamaForCausalLM":
        return ["memory        not forecast: the planner's arithmetic is of Llama's blocks"]
    shape = Shape(
        *(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.num_key_value_heads),
        *(config.intermediate_size, config.vocab_size, packed["context_length"]),
    )
    counted = memory.count_parameters(shape, tied=config.tie_word_embeddings)
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
