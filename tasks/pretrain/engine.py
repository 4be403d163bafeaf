"""The DeepSpeed engine: ZeRO, precision, offload, and the gradients that it has gathered when a step is due."""

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tasks.pretrain.deepspeed_import import load_deepspeed
from tasks.pretrain.distributed import ProcessGroup
from tasks.pretrain.optimizers.swapping import BUFFERS, Swapping

if TYPE_CHECKING:
    from tasks.pretrain.optimizers.optimizer import MixedOptimizer
    from tasks.pretrain.params import PlannedParams

NEVER = 1 << 60
NORM_BLOCK = 1 << 16
"""On a CPU, PyTorch sums the squares of a tensor one after the other in fp32: 1% too little of 10^8 numbers. So in blocks."""


def start_engine(
    model: Any, optimizer: "MixedOptimizer", params: "PlannedParams", micro_rows: int, accumulation: int, work: Path
) -> Any:
    """The DeepSpeed engine around `model` and `optimizer`. Clipping and the choice of steps to skip are the loop's.

    `work`: a folder on the disk that `offload: nvme` is to use.
    """
    deepspeed = load_deepspeed()
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    # Else the first start compiles shared-memory kernels for a minute; gloo's all-reduce does not use them.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    zero: dict[str, Any] = {"stage": params.zero_stage}
    if params.offload:
        zero["offload_optimizer"] = {"device": params.offload}
    if params.offload == "nvme":
        zero["offload_optimizer"] |= {"nvme_path": str(work / "swap"), "buffer_count": BUFFERS}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_rows,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": NEVER,
    }
    if params.precision == "bf16":  # gradients of micro-batches are summed in fp32
        config |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    elif params.precision == "fp16":
        config["fp16"] = {"enabled": True, "loss_scale": 0}
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    if params.offload == "nvme":
        optimizer.swapping = Swapping(engine.optimizer)
    return engine


def set_accumulation(engine: Any, micro_rows: int, accumulation: int, ranks: int) -> None:
    """Have the next step sum `accumulation` micro-batches of `micro_rows`: the loss of each is divided by their number."""
    engine.set_train_micro_batch_size(micro_rows)
    engine.set_train_batch_size(micro_rows * accumulation * ranks)
    if hasattr(engine.optimizer, "gradient_accumulation_steps"):  # ZeRO's own copy
        engine.optimizer.gradient_accumulation_steps = accumulation


def gradient_norm(engine: Any, group: ProcessGroup, zero_stage: int) -> float:
    """The norm of the whole gradient of the step that is due, inf or nan where a number of it is. Collective.

    To be asked when the last micro-batch was passed backward and before `engine.step()`.
    """
    zero = engine.optimizer
    if getattr(zero, "swap_optimizer", False):
        norms = Swapping(zero).gradient_norms()
    else:
        norms = [
            torch.linalg.vector_norm(block, dtype=torch.float32)
            for part in _gradients(engine, zero_stage)
            for block in (torch.split(part.view(-1), NORM_BLOCK) if part.device.type == "cpu" else [part])
        ]
    total = float(torch.stack([norm.double().square() for norm in norms]).sum()) if norms else 0.0
    if zero_stage:  # each rank has its share
        total = group.all_reduce_sum(total)[0]
    return math.sqrt(total) / float(getattr(engine.optimizer, "loss_scale", 1.0)) if total >= 0 else total


def _gradients(engine: Any, zero_stage: int) -> list[torch.Tensor]:
    zero = engine.optimizer
    if zero_stage == 0:
        return [parameter.grad for parameter in engine.module.parameters() if parameter.grad is not None]
    if getattr(zero, "cpu_offload", False) or getattr(zero, "offload_optimizer", False):
        holders = getattr(zero, "single_partition_of_fp32_groups", None) or zero.fp32_partitioned_groups_flat
        return [holder.grad for holder in holders if holder.grad is not None]
    if hasattr(zero, "fp32_groups_gradient_flat_partition"):  # bf16 at stage 1
        return list(zero.fp32_groups_gradient_flat_partition)
    parts: list[torch.Tensor] = []
    for gradients in zero.averaged_gradients.values():
        parts += [gradients] if isinstance(gradients, torch.Tensor) else list(gradients or [])
    return parts


def loss_scale_state(engine: Any) -> dict[str, float] | None:
    """The numbers of fp16's loss scaler; None without one."""
    scaler = getattr(engine.optimizer, "loss_scaler", None)
    if not getattr(scaler, "dynamic", False):
        return None
    return {key: value for key, value in vars(scaler).items() if isinstance(value, int | float)}


def restore_loss_scale(engine: Any, state: dict[str, float] | None) -> None:
    """Set what `loss_scale_state` gave."""
    if state is not None and hasattr(engine.optimizer, "loss_scaler"):
        vars(engine.optimizer.loss_scaler).update(state)
