"""Textmill's pretrain, the whole stage in the form `make run` uses, with the recipe of params.yaml.

The clock is read from outside: the rank writes a row of curves.csv at the end of each step, and what its processor time was
then is looked up.
"""

import threading
import time
from pathlib import Path

import psutil
import torch
from measure import flops_per_token, held_out_bits_per_byte, matrices, parameters, settings, show
from transformers import AutoModelForCausalLM

from tasks.core.paths import Inputs, Outputs
from tasks.model.curves import read_curves
from tasks.pretrain.params import PretrainParams
from tasks.pretrain.stage import run

LOOKED_EVERY_S = 0.005


class Watcher(threading.Thread):
    """Processor and wall time of this process's children when the first and the last row of the curves appeared."""

    def __init__(self, curves: Path, steps: int) -> None:
        super().__init__(daemon=True)
        self.curves, self.steps = curves, steps
        self.first: tuple[float, float] | None = None
        self.last = (0.0, 0.0)

    def run(self) -> None:
        """Look until all rows are there."""
        rows = 0
        while rows < self.steps:
            time.sleep(LOOKED_EVERY_S)
            if not self.curves.exists():
                continue
            found = self.curves.read_bytes().count(b"\n") - 1
            if found > rows:
                rows, now = found, (_processor_time(), time.perf_counter())
                self.first = self.first or now
                self.last = now
                self.first_row = getattr(self, "first_row", rows)


def _processor_time() -> float:
    return sum(
        times.user + times.system
        for times in (child.cpu_times() for child in psutil.Process().children(recursive=True))
    )


def main() -> None:
    """Train and report."""
    config = settings()
    out, steps = Path(config["out"]), config["steps"]
    outputs = Outputs(out / "model", out / "work")
    outputs.root.mkdir(parents=True)
    outputs.work.mkdir()
    block = dict(config["pretrain"]) | {"steps": steps, "seed": config["seed"], "start_from": None}
    block |= {key: config[key] for key in ("layers", "hidden", "heads", "kv_heads", "intermediate")}
    block["global_batch_tokens"] = config["batch_rows"] * config["context"]
    block["warmup_steps"] = min(block.get("warmup_steps") or 0, steps // 5)
    # What is compared is scored by another: one row here, at the end. Checkpoints are the last step's alone.
    block |= {"validation_every": steps, "validation_tokens": 1, "checkpoint_every": max(2, steps)}
    folder = Path(config["folder"])
    watcher = Watcher(outputs / "curves.csv", steps)
    watcher.start()
    metrics = run(
        PretrainParams.model_validate(block),
        Inputs({"pack": folder / "pack", "tokenizer": folder / "tokenizer"}),
        outputs,
    )
    watcher.join(60)
    assert watcher.first is not None
    tokens = [int(row["tokens"]) for row in read_curves(outputs / "curves.csv")]
    cpu, wall = (last - first for last, first in zip(watcher.last, watcher.first, strict=True))
    torch.set_num_threads(config["threads"])
    model = AutoModelForCausalLM.from_pretrained(outputs.root, dtype=torch.float32).eval()
    bits = held_out_bits_per_byte(config, lambda ids: model(ids, use_cache=False).logits)
    flops = flops_per_token(config, matrices(model))
    assert metrics["steps"] == steps
    show(tokens[-1] - tokens[watcher.first_row - 1], cpu, wall, bits, flops, parameters(model))


if __name__ == "__main__":
    main()
