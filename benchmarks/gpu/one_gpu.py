"""What one GPU gives pretraining, within a few minutes: `python -m benchmarks.gpu.one_gpu --out FOLDER` (run.sh does it).

In this order: bf16 at ZeRO 0 is refused; 20 steps of a small model in fp32 on the CPU, in fp32 and in bf16 on the GPU, give the
same losses; then models of about 124 million and 1 billion parameters, context 2,048, vocabulary 32,768, made-up packed
rows, bf16, at ZeRO 1, 2 and 3: tokens/s, MFU, memory beside the planner's forecast, what loading and checkpoints take. Each
measurement is a process with a time limit of its own, and its line stands in results.jsonl as soon as it is known; table.md is
made of what there is. MFU = tokens/s x (6N + 12·L·H·Q·T) / peak (PaLM, arXiv:2204.02311).
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
    "tiny": {"layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "intermediate": 64},
}
RUNS: dict[str, dict[str, Any]] = {
    "124m": {"micro_batch_rows": 16, "rows": 64, "steps": 14, "checkpoint_every": 250, "goal": 0.45},
    "1b": {"micro_batch_rows": 8, "rows": 32, "steps": 8, "checkpoint_every": 500, "goal": 0.55},
    "tiny": {"micro_batch_rows": 2, "rows": 4, "steps": 5, "checkpoint_every": 250, "goal": 0.0},
}
CONTEXT, VOCABULARY = 2048, 32768
LOADER_GOAL, CHECKPOINT_GOAL = 0.01, 0.02
LIMITS = [  # measurement, seconds; in the order of what is missed most if time runs out
    ("refusal", 30),
    ("agreement", 120),
    ("124m:1", 130),
    ("1b:1", 170),
    ("124m:2", 80),
    ("1b:2", 110),
    ("124m:3", 80),
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


def measure(name: str, tiny: bool) -> list[dict[str, Any]]:
    """The results of one measurement."""
    if name == "refusal":
        return [refusal()]
    if name == "agreement":
        return agreement()
    model, stage = name.split(":")
    return [speed(model, int(stage), tiny)]


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
    never = {"validation_every": 1 << 30, "checkpoint_every": 1 << 30, "validation_tokens": 1}
    return {"optimizer": "adamw", "learning_rate": 1e-3, "warmup_steps": 2, **MODELS[model], **never, **changes}


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


def agreement() -> list[dict[str, Any]]:
    """Losses of the same steps: fp32 on the CPU, then what this machine has beside it."""
    import torch

    variants = [("cpu", "fp32", 0)]
    variants += [("cuda", "fp32", 0), ("cuda", "bf16", 1)] if torch.cuda.is_available() else [("cpu", "fp32", 1)]
    found: list[dict[str, Any]] = []
    for device, precision, stage in variants:
        params = block("tiny", steps=AGREEMENT_STEPS, global_batch_tokens=1024, micro_batch_rows=8)
        done = train({**params, "precision": precision, "zero_stage": stage}, 128, 512, device, "")
        losses = done["losses"]
        off = max(abs(a - b) for a, b in zip(losses, found[0]["losses"] if found else losses, strict=True))
        line = {"device": device, "precision": precision, "zero_stage": stage, "losses": losses, "off": off}
        found.append({**line, "tolerance": TOLERANCE[precision], "agrees": off <= TOLERANCE[precision]})
    return found


def speed(model: str, stage: int, tiny: bool) -> dict[str, Any]:
    """Tokens/s, MFU, memory, shares."""
    import torch

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
    done = train(params, context, vocabulary, "cuda" if there else "cpu", "benchmarks.gpu.timed_rank")
    steps, loading = (done["seconds"][key][WARM_UP_STEPS:] for key in ("step", "loader"))
    step = statistics.median(steps)
    rate = params["global_batch_tokens"] / step
    sizes = MODELS[model]
    parameters: int = done["metrics"]["parameters"]
    flops = rate * (6 * parameters + 12 * sizes["layers"] * sizes["hidden"] * context)
    line: dict[str, Any] = {
        "model": model,
        "parameters": parameters,
        "context": context,
        "vocabulary": vocabulary,
        "zero_stage": stage,
        "precision": params["precision"],
        "compile": params["compile"],
        "tokens_per_second": rate,
        "step_seconds": step,
        "measured_peak_flops": done["timings"]["peak_flops"],
        "mfu_of_measured_peak": flops / done["timings"]["peak_flops"],
        "mfu_of_data_sheet": flops / DATA_SHEET_FLOPS,
        "mfu_goal": how["goal"],
        "memory_bytes": done["timings"].get("gpu_peak_bytes"),
        "forecast_bytes": forecast(sizes, params, context, vocabulary),
        "loader_share": sum(loading) / sum(steps),
    }
    if done["seconds"]["checkpoint"]:
        line["checkpoint_seconds"] = statistics.median(done["seconds"]["checkpoint"])
        line["checkpoint_every"] = how["checkpoint_every"]
        # Of a run with the preset's batch, which is larger than this one's.
        between = how["checkpoint_every"] * step * (524288 / params["global_batch_tokens"] if not tiny else 1)
        line["checkpoint_share"] = line["checkpoint_seconds"] / (between + line["checkpoint_seconds"])
    return line


def forecast(sizes: dict[str, Any], params: dict[str, Any], context: int, vocabulary: int) -> float | None:
    """Bytes that the planner expects, where there is a planner."""
    try:
        from tasks.architectures import memory
    except ImportError:
        return None
    from tasks.architectures.shape import Shape

    shape = Shape(
        *(sizes[key] for key in ("layers", "hidden", "heads", "kv_heads", "intermediate")), vocabulary, context
    )
    expected = memory.training_memory(
        shape,
        memory.count_parameters(shape),
        rows=params["micro_batch_rows"],
        optimizer="adamw",
        precision=params["precision"],
        zero_stage=params["zero_stage"],
        ranks=1,
    )
    return float(expected.total)


def as_table(lines: list[dict[str, Any]]) -> str:
    """Markdown: what was measured, with the goals beside it; what is missing, with the reason."""
    about = {line["measurement"]: line for line in lines}
    text = [", ".join(f"{key} {value}" for key, value in about["machine"].items() if key != "measurement"), ""]
    refused = about.get("refusal", {})
    text.append(f"bf16 at ZeRO 0: {'refused' if refused.get('refused') else 'NOT REFUSED'} ({refused.get('message')})")
    text += ["", "| loss of 20 steps | ZeRO | largest difference from fp32 on the CPU, nats | tolerance | |"]
    text.append("| --- | ---: | ---: | ---: | --- |")
    for line in lines:
        if "off" in line:
            start = f"| {line['precision']} on {line['device']} | {line['zero_stage']} | {line['off']:.2g} "
            text.append(f"{start}| {line['tolerance']:g} | {'agrees' if line['agrees'] else 'DIFFERS'} |")
    heads = (
        "model",
        "ZeRO",
        "tokens/s",
        "MFU, data sheet",
        "of measured product",
        "goal",
        "memory, GB",
        "forecast, GB",
    )
    text += ["", f"| {' | '.join((*heads, 'loader', 'checkpoints'))} |"]
    text.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    text += [_row(line) for line in lines if "tokens_per_second" in line]
    goals = f"Goals: loader < {LOADER_GOAL:.0%} and checkpoints < {CHECKPOINT_GOAL:.0%} of the time; "
    text += ["", f"{goals}MFU of the data sheet's 989.4 TFLOP/s."]
    text += [f"{line['measurement']}: {line['error']}" for line in lines if "error" in line]
    return "\n".join(text) + "\n"


def _row(line: dict[str, Any]) -> str:
    memory, expected = (f"{size / 1e9:.1f}" if size else "" for size in (line["memory_bytes"], line["forecast_bytes"]))
    share = line.get("checkpoint_share")
    cells = (
        f"{line['model']}, {line['parameters'] / 1e6:,.1f} M, {line['precision']}{', compiled' * line['compile']}",
        f"{line['zero_stage']}",
        f"{line['tokens_per_second']:,.0f}",
        f"{line['mfu_of_data_sheet']:.1%}",
        f"{line['mfu_of_measured_peak']:.1%} of {line['measured_peak_flops'] / 1e12:,.1f} TFLOP/s",
        f"≥ {line['mfu_goal']:.0%}" if line["mfu_goal"] else "",
        *(memory, expected),
        f"{line['loader_share']:.2%}",
        f"{share:.2%} ({line['checkpoint_seconds']:.1f} s)" if share is not None else "",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
