"""What a machine must have for the parameters, and a given model for the rows: units, a compiler, numbers, a vocabulary."""

import shutil
import sysconfig
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.pretrain.deepspeed_import import load_deepspeed


def check_precision(precision: str, device: str) -> None:
    """Refuse bf16 where the processor has no units for it: emulated, it is three times slower than fp32. And fp16 without a GPU.

    Raises:
        UserError: no bf16 units, no GPU for fp16.
    """
    import torch

    if precision == "fp16" and device != "cuda":
        raise UserError(
            "params.yaml: pretrain.precision: fp16 is for GPUs: DeepSpeed has none on a processor. Set fp32"
        )
    if precision != "bf16":
        return
    if device == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = any(
            bool(getattr(torch.cpu, name, bool)()) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    if not able:
        raise UserError(
            f"params.yaml: pretrain.precision: this machine's {device} has no bf16 units, and without them bf16 is "
            "slower than fp32. Set fp32"
        )


def check_compiler(compile_model: bool) -> None:
    """Refuse `compile: true` where what torch.compile writes, in C++ that includes Python.h, cannot be compiled.

    Raises:
        UserError: this Python's headers are missing.
    """
    if compile_model and not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        package = f"python{sysconfig.get_python_version()}-dev"
        raise UserError(
            "params.yaml: pretrain.compile: torch.compile needs Python's headers, which are missing on this machine. "
            f"Install them, e.g. apt-get install {package}, or set compile: false"
        )


def check_swapping(offload: str | None) -> None:
    """Refuse `offload: nvme` where what DeepSpeed reads and writes files with (async_io) cannot be compiled.

    Raises:
        UserError: libaio's headers, a compiler or ninja are missing.
    """
    if offload != "nvme":
        return
    load_deepspeed()  # first: what follows would load MLflow with it
    from deepspeed.ops.op_builder import AsyncIOBuilder

    missing = {name: package for name, package in (("g++", "g++"), ("ninja", "ninja-build")) if not shutil.which(name)}
    if missing or not AsyncIOBuilder().is_compatible():
        names = [*missing, *([] if missing else ["libaio (its headers)"])]
        packages = [*missing.values(), *([] if missing else ["libaio-dev"])]
        raise UserError(
            f"params.yaml: pretrain.offload: nvme: DeepSpeed's file operations (async_io) are compiled at the first start, and "
            f"what they need is missing on this machine: {', '.join(names)}. Install it, e.g. apt-get install "
            f"{' '.join(packages)} (elsewhere than in /usr, name the folders in CFLAGS and LDFLAGS), or set offload: cpu"
        )


def require_fitting(model: Any, name: str, vocabulary_size: int) -> None:
    """Check a given model: its weights are numbers, and its embedding has a row for each token.

    Raises:
        UserError: one is not.
    """
    import torch

    for weight, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(f"{name}: its weight {weight} holds numbers that are not finite: the model is broken")
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < vocabulary_size:
        raise UserError(
            f"{name}: its embedding has {rows} rows, but the text was packed with a vocabulary of {vocabulary_size} tokens. "
            "Run: dvc repro tokenizer pack"
        )
