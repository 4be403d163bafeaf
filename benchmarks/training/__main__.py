"""Pretraining against its peers: `make bench-training` (SECONDS=60: processor seconds a contender and seed).

One token file, the same threads, three seeds, in each of which the contenders take turns in another order. A short run of
each tells how many steps fit into the processor time that all get; the schedules end there. One scorer measures bits per
byte of the same held-out rows. MFU = tokens a CPU-second x FLOPs a token / peak, with FLOPs a token = 6N + 12·L·H·Q·T (PaLM,
arXiv:2204.02311; N: weights of the matrices that multiply) and the peak that of products of random fp32 matrices with the same
threads, FLOPs a CPU-second as well, the best seen over the run. Peers live in environments of their own under
.textmill/bench-envs, which this makes; one that cannot be installed is reported as such.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.curation import interpreter
from benchmarks.training.tokens import make
from tasks.core.execution import usable_cores
from tasks.core.params import read_yaml
from tasks.core.provenance import processor

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".textmill/bench-training"
SIZES = ("layers", "hidden", "heads", "kv_heads", "intermediate")
UNPLANNED = {"layers": 4, "hidden": 192, "heads": 3, "kv_heads": 1, "intermediate": 512, "global_batch_tokens": 4096}
UNPLANNED |= {"learning_rate": 5e-3, "warmup_steps": 20}
"""Where params.yaml leaves a key to the plan, and none was made."""
LEARNING_RATE = 2e-3
"""Of those whose recipe names none for so small a model: the best of 1e-3, 2e-3 and 4e-3 for the plain loop."""
PILOT_STEPS = 8
PEAK = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
size = 1536
left, right = (torch.randn(size, size, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
best, began = float("inf"), time.perf_counter()
while time.perf_counter() - began < 3:
    started = time.process_time()
    torch.matmul(left, right)
    best = min(best, time.process_time() - started)
print(2.0 * size**3 / best)
"""


@dataclass(frozen=True)
class Contender:
    """A program that is timed; the first is Textmill's.

    Attributes:
        script: in benchmarks/training/contenders, without .py.
        requirements: pip requirements of the environment it needs; empty: the project's own.
        goal: how many times as many tokens a CPU-second as it Textmill is to learn; none: bits per byte alone.
    """

    name: str
    script: str
    requirements: tuple[str, ...] = ()
    goal: float = 0
    results: list[dict[str, Any]] = field(default_factory=list, compare=False)

    def values(self, key: str) -> list[float]:
        """What was measured, seed by seed."""
        return [each[key] for each in self.results]

    @property
    def rate(self) -> float:
        """Median tokens a second of processor time."""
        return statistics.median(each["tokens"] / each["cpu_seconds"] for each in self.results)


CONTENDERS = [
    Contender("Textmill pretrain", "textmill"),
    Contender("HF Trainer, defaults", "hf_trainer", goal=1.3),
    Contender("plain loop, nanoGPT's manner", "plain_loop"),
    Contender("litgpt pretrain", "litgpt_pretrain", ("litgpt==0.5.13", "torch==2.13.0", "numpy", "requests")),
    Contender("nanochat's recipe, written anew", "nanochat_recipe"),
]
MFU_GOAL = 0.7


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=120, help="processor seconds of training, a contender and seed"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument(
        "--only", nargs="+", metavar="SCRIPT", help="these contenders: " + ", ".join(c.script for c in CONTENDERS)
    )
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE, help="of recipes that name none")
    parser.add_argument(
        "--tiny", action="store_true", help="made-up documents and a model of a few thousand weights, to try it"
    )
    parser.add_argument("--state", type=Path, default=STATE, help="folder for the token file and the runs")
    options = parser.parse_args()
    config = settings(options)
    load = os.getloadavg()[0]
    chosen = [each for each in CONTENDERS if not options.only or each.script in options.only]
    missing: dict[str, str] = {}
    steps: dict[str, int] = {}
    peak = measured_peak(options.threads)
    for each in chosen:
        try:
            pilot = train(each, config | {"steps": PILOT_STEPS, "seed": 0})
            rate = pilot["cpu_seconds"] / (PILOT_STEPS - 1)
            steps[each.script] = max(PILOT_STEPS, round(options.seconds / max(rate, 1e-9)) + 1)
        except subprocess.CalledProcessError as error:
            reason = ((error.stderr or "").strip().splitlines() or ["failed"])[-1]
            if not each.requirements:
                raise SystemExit(f"{each.name} failed:\n{(error.stderr or '')[-3000:]}") from None
            missing[each.name] = reason
    for seed in range(options.seeds):
        running = [each for each in chosen if each.name not in missing]
        turn = seed % len(running)
        for each in running[turn:] + running[:turn]:
            result = train(each, config | {"steps": steps[each.script], "seed": seed})
            each.results.append(result)
            print(
                f"seed {seed}: {each.name}: {result['tokens'] / result['cpu_seconds']:,.0f} tokens/CPU-s, "
                f"{result['bits_per_byte']:.4f} bits per byte after {result['cpu_seconds']:.0f} CPU-s",
                file=sys.stderr,
            )
        peak = max(peak, measured_peak(options.threads))
    print(table(chosen, missing, peak))
    print(f"\n{describe(options, config, peak, load)}")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What every contender is told: the folder of tokens, sizes, batch, threads; the recipe of params.yaml for Textmill."""
    blocks = read_yaml(ROOT / "params.yaml")
    plan = ROOT / "data/plan/planned.json"  # what is null in params.yaml
    planned = json.loads(plan.read_text())["values"] if plan.exists() else {}
    given = {key: value for key, value in blocks["pretrain"].items() if value is not None}
    recipe = {**UNPLANNED, **planned, **given}
    sizes = {key: recipe[key] for key in SIZES}
    context, vocabulary = blocks["pack"]["context_length"], blocks["tokenizer"]["vocab_size"]
    batch, documents, folder = recipe["global_batch_tokens"], None, options.state / "tokens"
    if options.tiny:
        sizes = {"layers": 2, "hidden": 32, "heads": 2, "kv_heads": 1, "intermediate": 64}
        context, vocabulary, batch, documents, folder = 32, 280, 256, 400, options.state / "tiny"
    return {
        "folder": str(make(folder, context, vocabulary, documents)),
        "context": context,
        "vocabulary": vocabulary,
        "batch_rows": max(1, batch // context),
        "threads": options.threads,
        "learning_rate": options.learning_rate,
        "pretrain": recipe,
        **sizes,
    }


def train(contender: Contender, config: dict[str, Any]) -> dict[str, Any]:
    """One run of a contender, in a folder of its own.

    Raises:
        subprocess.CalledProcessError: it, or the installation of what it needs, failed.
    """
    python = interpreter(contender.requirements)
    out = Path(config["folder"]).parent / "out" / contender.script
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "config.json").write_text(json.dumps(config | {"out": str(out)}))
    (out / "execution.yaml").write_text(f"ranks: 1\nthreads: {config['threads']}\ndevice: cpu\n")
    environment = os.environ | {"OMP_NUM_THREADS": str(config["threads"]), "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"PYTHONPATH": str(ROOT) if not contender.requirements else "", "HF_HUB_OFFLINE": "1"}
    # What Textmill sets for its ranks is the allocator's; each contender gets it.
    environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
    script = Path(__file__).parent / "contenders" / f"{contender.script}.py"
    done = subprocess.run(
        [python, str(script), str(out / "config.json")],
        cwd=out,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def measured_peak(threads: int) -> float:
    """FLOPs a second of processor time of products of random matrices in fp32, by a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", PEAK, str(threads)]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def table(contenders: Sequence[Contender], missing: dict[str, str], peak: float) -> str:
    """Markdown: rates, MFU, Textmill's rate over each peer's, bits per byte with the spread of the seeds."""
    lines = [
        "| contender | parameters | tokens/CPU-s | MFU | Textmill is × as fast | goal | bits per byte | over seeds | CPU-s |"
    ]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    own = contenders[0]
    for each in contenders:
        if each.name in missing:
            lines.append(f"| {each.name} | did not run: {missing[each.name]} | | | | | | | |")
            continue
        bits, last = each.values("bits_per_byte"), each.results[-1]
        mfu = each.rate * last["flops_per_token"] / peak
        ratio = "" if each is own else f"{own.rate / each.rate:.2f}"
        goal = f"MFU ≥ {MFU_GOAL:.0%}" if each is CONTENDERS[0] else f"≥ {each.goal:g} ×" if each.goal else ""
        lines.append(
            f"| {each.name} | {last['parameters']:,} | {each.rate:,.0f} | {mfu:.0%} | {ratio} | {goal} | "
            f"{statistics.median(bits):.4f} | {min(bits):.4f} to {max(bits):.4f} | "
            f"{statistics.median(each.values('cpu_seconds')):.0f} |"
        )
    return "\n".join(lines)


def describe(options: argparse.Namespace, config: dict[str, Any], peak: float, load: float) -> str:
    """Machine, versions, sizes, commit."""
    ask = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
    sizes = ", ".join(
        f"{key} {config[key]}" for key in (*SIZES, "context", "vocabulary", "batch_rows", "learning_rate")
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "deepspeed"))
    return (
        f"{processor()}, {options.threads} threads of {os.cpu_count()} cores, load {load:.2f} at the start, peak "
        f"{peak / 1e9:.0f} GFLOPs of fp32 a CPU-second; Python {platform.python_version()}, {versions}; {sizes}; {options.seeds} seeds, "
        f"{options.seconds:g} CPU-seconds each; commit {commit}. MFU: (6N + 12·L·H·Q·T) FLOPs a token, of that peak."
    )


if __name__ == "__main__":
    main()
