"""Every stage in a row in this process, with parameters small enough for seconds."""

import importlib
from pathlib import Path
from typing import Any

from tasks.core import graph
from tasks.core.params import params_model, select_values, validate
from tasks.core.paths import Inputs, Outputs, write_json
from tests.helpers.checkout import ROOT

TINY: dict[str, dict[str, Any]] = {
    "tokenizer": {"vocab_size": 300},
    "pack": {"context_length": 64},
    "pretrain": {
        "layers": 1,
        "hidden": 32,
        "heads": 2,
        "intermediate": 64,
        "steps": 4,
        "global_batch_tokens": 512,
        "warmup_steps": 1,
        "validation_every": 4,
        "checkpoint_every": 4,
    },
    "finetune": {"max_steps": 2, "batch": 2, "micro_batch": 2, "max_length": 64},
    "prefer": {
        "method": "grpo",
        "grpo": {"steps": 2, "prompts": 2, "samples": 4},
        "held_out": 8,
        "max_new_tokens": 16,
    },
    "quantize": {"prompts": 4, "max_bytes": 800, "formats": ["q8_0", "torchao-int8"]},
    "evaluate": {"max_bytes": 2000, "max_questions": 2, "max_new_tokens": 8, "prompts": ["Hello!"], "samples": 1},
}


def run_stages(folder: Path, params: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Run the stages of dvc.yaml into `folder`/data and `folder`/metrics; returns their metrics.

    `params` are set above TINY; other keys have the models' defaults.
    """
    measured: dict[str, Any] = {}
    stages = list(graph.load_graph(ROOT))
    blocks = {s: validate(params_model(s), TINY.get(s, {}) | params.get(s, {}), s) for s in stages}
    for stage, node in graph.load_graph(ROOT).items():
        outputs = Outputs(folder / "data" / stage, folder / "work" / stage)
        for path in (outputs.root, outputs.work):
            path.mkdir(parents=True)
        inputs = {name: folder / path.relative_to(ROOT) for name, path in node.inputs.items()}
        run = importlib.import_module(f"tasks.{stage}.stage").run
        measured[stage] = run(blocks[stage], Inputs(inputs, stage, select_values(blocks, node.settings)), outputs)
        write_json(folder / "metrics" / f"{stage}.json", measured[stage])
    return measured
