"""Pretraining: a Llama-style decoder, or a model of somebody else, learns the packed rows, on one process or many, on CPU or GPU."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import UserError
from tasks.core.paths import Inputs, Metrics, Outputs
from tasks.pretrain.params import PretrainParams

if TYPE_CHECKING:
    from tasks.model.start_from import ModelSource

log = logging.getLogger(__name__)


def run(params: PretrainParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Train on `pack` with the vocabulary of `tokenizer`; what is null in `params` is as `planned.json` says.

    Where the tokenizer was adopted from a model that comes in at finetune, nothing is trained: a pointer to `tokenizer`
    (tasks.model.model_pointer) and a curve without rows are left.

    Writes a folder that `AutoModelForCausalLM` and `AutoTokenizer` load, and `curves.csv`, row by row (step, tokens,
    loss [nats a token], learning_rate, gradient_norm, validation_bits_per_byte).

    Raises:
        UserError: sizes that do not fit together, missing hardware for bf16, a loss that is not finite, a killed rank.
        Interrupted: after a checkpoint was written; the next start continues from it.
    """
    from tasks.core.execution import load_execution
    from tasks.model.adopted_model import adopted_model
    from tasks.model.start_from import read_model_source
    from tasks.pretrain import rank
    from tasks.pretrain.checkpoints.stable import stable_folder
    from tasks.pretrain.checks.packed_input import check_rows
    from tasks.pretrain.launching import launch
    from tasks.pretrain.launching.nodes import find_nodes, rendezvous_port
    from tasks.pretrain.planned import planned_params

    source = read_model_source(inputs["tokenizer"])
    if source and source.enters == "finetune":
        return _pass_over(source, inputs["tokenizer"], outputs)
    if params.start_from != (source.start_from if source else None):
        raise UserError(
            f"{inputs['tokenizer']}: was not made for pretrain.start_from: {params.start_from}. Run: dvc repro tokenizer"
        )
    planned = planned_params(params, inputs["planned.json"] if "planned.json" in list(inputs) else None).at_length()
    start = str(adopted_model(inputs["tokenizer"])) if source else None
    execution = load_execution()
    nodes = find_nodes(execution)
    ranks = sum(node.ranks for node in nodes)
    device = execution.device_name()
    check_rows(planned, inputs["pack"], ranks, source)
    outcome = launch.run_ranks(
        rank.__name__,
        {
            "params": planned.model_dump(),
            "pack": str(inputs["pack"].absolute()),
            "tokenizer": str(inputs["tokenizer"].absolute()),
            "start": start,
            "stable": str(stable_folder(planned, inputs["pack"], inputs["tokenizer"])),
            "output": str(outputs.root.absolute()),
        },
        work=outputs.work.absolute(),
        ranks=ranks,
        device=device,
        threads=execution.thread_count(nodes[0].ranks),
        nodes=nodes,
        port=rendezvous_port(nodes, execution),
        hang_timeout_s=execution.hang_timeout_s,
    )
    outputs.timings.update(outcome["timings"])
    metrics: Metrics = outcome["metrics"]
    return metrics


def _pass_over(source: "ModelSource", tokenizer: Path, outputs: Outputs) -> Metrics:
    from tasks.model.curves import PRETRAINING_COLUMNS, CurveWriter
    from tasks.model.model_pointer import write_pointer

    reason = f"finetune.start_from names {source.start_from}"
    log.info("pretrain: %s: nothing is trained here", reason)
    write_pointer(outputs.root, tokenizer, reason)
    CurveWriter(outputs / "curves.csv", columns=PRETRAINING_COLUMNS).close()
    return {"start_from": source.start_from, "parameters": source.parameters, "steps": 0, "tokens": 0}
