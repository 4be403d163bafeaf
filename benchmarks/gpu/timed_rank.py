"""A rank of a training run with clocks in it: steps, what loading takes of them, checkpoints. `benchmarks.gpu.one_gpu` starts it.

The rank is the stage's own; what is measured is wrapped from outside. What takes long and is not measured (export, validation)
is left out. `timed.json` in the work folder has the seconds.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core.paths import write_json

CHECKPOINTS = "TEXTMILL_TIMED_CHECKPOINTS"
"""Environment: `0` leaves checkpoints out."""
PROFILE = "TEXTMILL_PROFILE"
"""Environment: a file for a table of the kernels of the sixth step."""
seconds: dict[str, list[float]] = {"step": [], "loader": [], "checkpoint": []}
_loading = [0.0]


def timed(function: Callable[..., Any], spent: Callable[[float], None]) -> Callable[..., Any]:
    """`function`, of whose seconds `spent` is told."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent(time.perf_counter() - started)

    return wrapper


def _loaded(spent: float) -> None:
    _loading[0] += spent


def _stepped(spent: float) -> None:
    seconds["step"].append(spent)
    seconds["loader"].append(_loading[0])
    _loading[0] = 0.0


def hiding(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, in which loading takes nothing of the step: the device is busy meanwhile."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        before = _loading[0]
        done = function(*arguments, **options)
        _loading[0] = before
        return done

    return wrapper


def profiled(step: Callable[..., Any], table: Path) -> Callable[..., Any]:
    """`step`, whose sixth call is profiled."""
    from torch.profiler import ProfilerActivity, profile

    calls = iter(range(1, 1 << 30))

    @functools.wraps(step)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        if next(calls) != 6:
            return step(*arguments, **options)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            done = step(*arguments, **options)
        table.write_text(
            seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=45, max_name_column_width=90)
        )
        return done

    return wrapper


def take_older_torch() -> None:
    """Flash attention of torch 2.11, which takes fewer heads of keys without being told."""
    import inspect

    from torch.nn.attention import varlen

    kernel = varlen.varlen_attn
    if "enable_gqa" not in inspect.signature(kernel).parameters:
        varlen.varlen_attn = lambda *parts, enable_gqa=False, **options: kernel(*parts, **options)


def main() -> int:
    """Train as the config file says, with the clocks; returns the exit code."""
    from tasks.pretrain import loop, rank
    from tasks.pretrain.training_step import TrainingStep
    from tasks.pretrain.validation import Validation

    TrainingStep._collated = timed(TrainingStep._collated, _loaded)
    TrainingStep._backward = hiding(TrainingStep._backward)
    TrainingStep.take = timed(TrainingStep.take, _stepped)
    if table := os.environ.get(PROFILE):
        TrainingStep.take = profiled(TrainingStep.take, Path(table))
    take_older_torch()
    if os.environ.get(CHECKPOINTS) == "0":
        loop.Trainer._save = lambda *_, **__: None
    else:
        loop.Trainer._save = timed(loop.Trainer._save, seconds["checkpoint"].append)
    Validation.measure = lambda *_, **__: (True, None)
    loop.Trainer._weights_to_export = lambda *_: {}
    loop.save_model = lambda *_, **__: None
    config = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
    code = rank.main()
    write_json(Path(config["work"]) / "timed.json", seconds)
    return code


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
