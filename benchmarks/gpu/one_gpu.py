"""What one GPU gives pretraining, within a few minutes: `python -m benchmarks.gpu.one_gpu --out FOLDER` (run.sh does it).

In this order: bf16 at ZeRO 0 is refused; 20 steps of a small model in fp32 on the CPU, in fp32 and, at each ZeRO stage and by
each kind of attention, in bf16 on the GPU, give the same losses; then models of about 124 million and 1 billion parameters,
context 2,048, vocabulary 32,768, made-up packed rows, bf16, at ZeRO 1, 2 and 3: tokens/s, MFU, memory beside the planner's
forecast, what loading and checkpoints take. Each measurement is a process with a time limit of its own, and its line stands in
results.jsonl as soon as it is known; table.md is made of what there is. MFU = tokens/s x (6N + 12·L·H·Q·T) / peak (PaLM,
arXiv:2204.02311), in which attention counts in full, though documents are kept apart: the share of 6N alone stands beside it.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.pretraining import random_pack, tiny_tokenizer
from benchmarks.gpu.timed_rank import CHECKPOINTS

ROOT = Path(__file__).parents[2]
DATA_SHEET_FLOPS = 989.4e12
"""Dense bf16 of an H100 SXM (NVIDIA's data sheet, without sparsity)."""
WARM_UP_STEPS = 2
AGREEMENT_STEPS = 20
TOLERANCE = {"fp32": 2e-3, "bf16": 5e-2}
"""Largest difference of a step's loss, nats a token, from fp32 on the CPU."""
MODELS: dict[str, dict[str, Any]] = {
    "124m": {"layers": 12, "hidden": 768, "heads": 12, "kv_heads": 12, "intermediate": 2048},
    "1b": {"layers": 22, "hidden": 2048, "heads": 16, "kv_heads": 4, "intermediate": 5632},
    "tiny": {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "intermediate": 64},
}
"""Of the family llama, the head being the embedding's matrix."""
RUNS: dict[str, dict[str, Any]] = {
    "124m": {"micro_batch_rows": 32, "rows": 128, "steps": 12, "checkpoint_every": 250, "goal": 0.45},
    "1b": {"micro_batch_rows": 8, "rows": 64, "steps": 7, "checkpoint_every": 500, "goal": 0.55},
    "tiny": {"micro_batch_rows": 2, "rows": 4, "steps": 5, "checkpoint_every": 250, "goal": 0.0},
}
CONTEXT, VOCABULARY = 2048, 32768
SIZES = ("layers", "hidden", "heads", "kv_heads", "intermediate")
RANK = "benchmarks.gpu.timed_rank"
LOADER_GOAL, CHECKPOINT_GOAL = 0.01, 0.02
LIMITS = [  # measurement, seconds; in the order of what is missed most if time runs out
    ("refusal", 30),
    ("agreement", 140),
    ("124m:1", 110),
    ("1b:1", 180),
    ("124m:2", 90),
    ("1b:2", 110),
    ("124m:3", 90),
    ("1b:3", 110),
]
TINY_LIMITS = [("refusal", 60), ("agreement", 240), ("tiny:1", 120)]


def main() -> None:
    """Measure one thing, or start a process for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=455, help="for everything")
    parser.add_argument("--tiny", action="store_true", help="a small model alone, on whatever device there is")
    parser.add_argument("--measure", help="this alone, in this process")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    if options.measure:
        for line in measure(options.measure, options.tiny):
            write(results, options.measure, line)
        return
    results.unlink(missing_ok=True)
    write(results, "machine", machine())
    deadline = time.monotonic() + options.seconds
    for name, limit in TINY_LIMITS if options.tiny else LIMITS:
        left = deadline - time.monotonic()
        if left < min(limit, 40):
            write(results, name, {"error": "not started: no time left"})
            continue
        apart(name, min(limit, left), options)
    table = as_table([json.loads(line) for line in results.read_text().splitlines()])
    (options.out / "table.md").write_text(table)
    print(table)


def write(results: Path, name: str, line: dict[str, Any]) -> None:
    """Append a line at once: what is cut off later still has it."""
    with results.open("a") as file:
        file.write(json.dumps({"measurement": name, **line}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def apart(name: str, limit: float, options: argparse.Namespace) -> None:
    """Measure in a process of its own, which is killed with all it has started when `limit` seconds are over."""
    command = [sys.executable, "-m", "benchmarks.gpu.one_gpu", "--out", str(options.out), "--measure", name]
    command += ["--tiny"] * options.tiny
    log = options.out / "log.txt"
    with log.open("a") as file:
        file.write(f"== {name}\n")
        file.flush()
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, cwd=ROOT)
        started = time.monotonic()
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            write(options.out / "results.jsonl", name, {"error": f"stopped after {limit:.0f} s"})
            return
    if code:
        said = [line for line in log.read_text().splitlines() if line.strip()][-1]
        write(options.out / "results.jsonl", name, {"error": f"exit code {code}: {said}"})
    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Device and versions."""
    import deepspeed
    import torch
    import transformers

    there = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if there else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": transformers.__version__,
        "deepspeed": deepspeed.__version__,
        "python": sys.version.split()[0],
        "compiles": compiles(),
    }


def compiles() -> bool:
    """Whether torch.compile finds what it needs: a GPU and Python's headers."""
    import torch

    return torch.cuda.is_available() and (Path(sysconfig.get_path("include")) / "Python.h").exists()


def measure(name: str, tiny: bool) -> Iterator[dict[str, Any]]:
    """The results of one measurement, each as soon as it is known; `MODEL:STAGE:KEY=JSON` of one with other parameters."""
    if name == "refusal":
        yield refusal()
    elif name == "agreement":
        yield from agreement()
    else:
        model, stage, *changes = name.split(":")
        yield speed(model, int(stage), tiny, dict(changed_key(change) for change in changes))


def changed_key(text: str) -> tuple[str, Any]:
    """`key=JSON` of a measurement's name."""
    key, _, value = text.partition("=")
    return key, json.loads(value)


def refusal() -> dict[str, Any]:
    """Whether bf16 at ZeRO 0 is refused, and how."""
    from pydantic import ValidationError

    from tasks.pretrain.params import PretrainParams

    try:
        PretrainParams.model_validate({**block("tiny"), "precision": "bf16", "zero_stage": 0})
    except ValidationError as error:
        return {"refused": True, "message": error.errors()[0]["msg"]}
    return {"refused": False}


def block(model: str, **changes: Any) -> dict[str, Any]:
    """Parameters of pretrain."""
    never = {"schedule": "cosine", "keep_stable": 0}  # no checkpoint from before a decay
    never |= {"validation_every": 1 << 30, "checkpoint_every": 1 << 30, "validation_tokens": 1}
    tied = {"architecture": {"tie_embeddings": True}}
    return {"optimizer": "adamw", "learning_rate": 1e-3, "warmup_steps": 2, **MODELS[model], **tied, **never, **changes}


def train(params: dict[str, Any], context: int, vocabulary: int, device: str, rank: str) -> dict[str, Any]:
    """Run the stage with `rank` as the program of its ranks; its metrics, timings, curve and `timed.json`."""
    from tasks.core.paths import Inputs, Outputs
    from tasks.model.curves import read_curves
    from tasks.pretrain.launching import launch
    from tasks.pretrain.params import PretrainParams
    from tasks.pretrain.stage import run

    launched = launch.run_ranks
    launch.run_ranks = lambda module, *arguments, **options: launched(rank or module, *arguments, **options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        (folder / "execution.yaml").write_text(f"ranks: 1\ndevice: {device}\nthreads: {1 if device == 'cpu' else 8}\n")
        rows = params["global_batch_tokens"] // context * min(params["steps"], 8)
        random_pack(folder / "pack", context, vocabulary, rows)
        tiny_tokenizer(folder / "tokenizer")
        outputs = Outputs(folder / "out", folder / "work")
        outputs.root.mkdir()
        outputs.work.mkdir()
        inputs = Inputs({"pack": folder / "pack", "tokenizer": folder / "tokenizer"})
        try:
            metrics = run(PretrainParams.model_validate(params), inputs, outputs)
        finally:
            launch.run_ranks = launched
            os.chdir(ROOT)
        timed = outputs.work / "timed.json"
        return {
            "metrics": metrics,
            "timings": outputs.timings,
            "losses": [float(row["loss"]) for row in read_curves(outputs / "curves.csv")],
            "seconds": json.loads(timed.read_text()) if timed.exists() else {},
        }


def agreement() -> Iterator[dict[str, Any]]:
    """Losses of the same steps: fp32 on the CPU, then what this machine has beside it."""
    import torch

    variants: list[tuple[str, str, int, str | None]] = [("cpu", "fp32", 0, None)]
    if torch.cuda.is_available():
        variants += [("cuda", "fp32", 0, None), ("cuda", "bf16", 1, "sdpa"), ("cuda", "bf16", 1, "flex")]
        variants += [("cuda", "bf16", stage, None) for stage in (1, 2, 3)]
    else:
        variants += [("cpu", "fp32", 1, None)]
    os.environ[CHECKPOINTS] = "0"
    expected: list[float] = []
    for device, precision, stage, attention in variants:
        params = block("tiny", steps=AGREEMENT_STEPS, global_batch_tokens=1024, micro_batch_rows=4)
        change = {"precision": precision, "zero_stage": stage, "attention": attention}
        try:
            losses = train({**params, **change}, 128, 512, device, RANK)["losses"]
        except Exception as error:
            yield {"device": device, **change, "error": str(error)[-300:]}
            continue
        expected = expected or losses
        off = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
        agrees = off <= TOLERANCE[precision]
        yield {
            "device": device,
            **change,
            "losses": losses,
            "off": off,
            "tolerance": TOLERANCE[precision],
            "agrees": agrees,
        }


def speed(model: str, stage: int, tiny: bool, changes: dict[str, Any]) -> dict[str, Any]:
    """Tokens/s, MFU, memory, shares; `changes` of the parameters."""
    import torch

    from tasks.architectures.memory import count_parameters, flops_per_token
    from tasks.architectures.shape import Shape

    there, how = torch.cuda.is_available(), RUNS[model]
    context, vocabulary = (128, 512) if tiny else (CONTEXT, VOCABULARY)
    # A checkpoint of a ZeRO stage takes what that of another takes: it is measured once a model.
    os.environ[CHECKPOINTS] = "1" if stage == 1 else "0"
    params = block(
        model,
        steps=how["steps"],
        micro_batch_rows=how["micro_batch_rows"],
        global_batch_tokens=how["rows"] * context,
        precision="bf16" if there else "fp32",
        zero_stage=stage,
        compile=compiles() and not tiny,
    )
    params |= changes
    done = train(params, context, vocabulary, "cuda" if there else "cpu", RANK)
    steps, loading = (done["seconds"][key][WARM_UP_STEPS:] for key in ("step", "loader"))
    step = statistics.median(steps)
    rate = params["global_batch_tokens"] / step
    sizes = MODELS[model]
    shape = Shape(*(sizes[key] for key in SIZES), vocabulary, context)
    counted = count_parameters(shape)
    flops = rate * flops_per_token(shape, counted)
    line: dict[str, Any] = {
        "model": model,
        "parameters": counted.total,
        "context": context,
        "vocabulary": vocabulary,
        "zero_stage": stage,
        "precision": params["precision"],
        "compile": params["compile"],
        "changes": changes,
        "tokens_per_second": rate,
        "step_seconds": step,
        "measured_peak_flops": done["timings"]["peak_flops"],
        "mfu_of_measured_peak": flops / done["timings"]["peak_flops"],
        "mfu_of_data_sheet": flops / DATA_SHEET_FLOPS,
        "share_of_6n": rate * 6 * (counted.blocks + counted.head) / DATA_SHEET_FLOPS,
        "mfu_goal": how["goal"],
        "memory_bytes": done["timings"].get("gpu_peak_bytes"),
        "forecast_bytes": forecast(shape, params),
        "loader_share": sum(loading) / sum(steps),
    }
    if done["seconds"]["checkpoint"]:
        line["checkpoint_seconds"] = statistics.median(done["seconds"]["checkpoint"])
        line["checkpoint_every"] = how["checkpoint_every"]
        # Of a run with the preset's batch, which is larger than this one's.
        between = how["checkpoint_every"] * step * (524288 / params["global_batch_tokens"] if not tiny else 1)
        line["checkpoint_share"] = line["checkpoint_seconds"] / (between + line["checkpoint_seconds"])
    return line


def forecast(shape: Any, params: dict[str, Any]) -> float:
    """Bytes that the planner expects."""
    from tasks.architectures import memory

    expected = memory.training_memory(
        shape,
        memory.count_parameters(shape),
        rows=params["micro_batch_rows"],
        optimizer="adamw",
        precision=params["precision"],
        zero_stage=params["zero_stage"],
        ranks=1,
        checkpointing=bool(params.get("activation_checkpointing")),
    )
    return expected.total


def as_table(lines: list[dict[str, Any]]) -> str:
    """Markdown: what was measured, with the goals beside it; what is missing, with the reason."""
    about = {line["measurement"]: line for line in lines}
    text = [", ".join(f"{key} {value}" for key, value in about["machine"].items() if key != "measurement"), ""]
    refused = about.get("refusal", {})
    text.append(f"bf16 at ZeRO 0: {'refused' if refused.get('refused') else 'NOT REFUSED'} ({refused.get('message')})")
    text += [
        "",
        "| loss of 20 steps | attention | ZeRO | largest difference from fp32 on the CPU, nats | tolerance | |",
    ]
    text.append("| --- | --- | ---: | ---: | ---: | --- |")
    for line in lines:
        if "off" in line:
            start = f"| {line['precision']} on {line['device']} | {line['attention'] or ''} | {line['zero_stage']} | {line['off']:.2g} "
            text.append(f"{start}| {line['tolerance']:g} | {'agrees' if line['agrees'] else 'DIFFERS'} |")
    heads = (
        "model",
        "ZeRO",
        "tokens/s",
        "MFU, data sheet",
        "of measured product",
        "goal",
        "6N alone, data sheet",
        "memory, GB",
        "forecast, GB",
    )
    text += ["", f"| {' | '.join((*heads, 'loader', 'checkpoints'))} |"]
    text.append(f"| --- |{' ---: |' * 10}")
    text += [_row(line) for line in lines if "tokens_per_second" in line]
    goals = f"Goals: loader < {LOADER_GOAL:.0%} and checkpoints < {CHECKPOINT_GOAL:.0%} of the time; "
    text += ["", f"{goals}MFU of the data sheet's 989.4 TFLOP/s."]
    text += [f"{line['measurement']}: {line['error']}" for line in lines if "error" in line]
    return "\n".join(text) + "\n"


def _row(line: dict[str, Any]) -> str:
    memory, expected = (f"{size / 1e9:.1f}" if size else "" for size in (line["memory_bytes"], line["forecast_bytes"]))
    share = line.get("checkpoint_share")
    cells = (
        f"{line['model']}, {line['parameters'] / 1e6:,.1f} M, {line['precision']}{', compiled' * line['compile']}"
        f"{''.join(f', {key} {value}' for key, value in line['changes'].items())}",
        f"{line['zero_stage']}",
        f"{line['tokens_per_second']:,.0f}",
        f"{line['mfu_of_data_sheet']:.1%}",
        f"{line['mfu_of_measured_peak']:.1%} of {line['measured_peak_flops'] / 1e12:,.1f} TFLOP/s",
        f"≥ {line['mfu_goal']:.0%}" if line["mfu_goal"] else "",
        f"{line['share_of_6n']:.1%}",
        *(memory, expected),
        f"{line['loader_share']:.2%}",
        f"{share:.2%} ({line['checkpoint_seconds']:.1f} s)" if share is not None else "",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
