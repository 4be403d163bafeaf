"""Whether the run fits into the memory there is: asked before the first weight is made, and what helps where it does not.

What is refused is only what cannot be: weights, gradients and the optimizer's state alone are more than what is free. Activations
are forecast as the planner does it, and come with a warning. What DeepSpeed takes beside them (buckets, copies) is not counted.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.architectures.memory import GIB, Memory, Parameters, activation_bytes, state_memory
from tasks.architectures.roles import weight_roles
from tasks.core.errors import UserError
from tasks.pretrain.checks.free_memory import free_bytes, free_host_bytes
from tasks.pretrain.data_loader import split_rows
from tasks.pretrain.outline import llama_shape, outline_model

if TYPE_CHECKING:
    from tasks.pretrain.distributed import ProcessGroup
    from tasks.pretrain.params import PlannedParams

log = logging.getLogger(__name__)
CHANGES: tuple[dict[str, Any], ...] = (
    *({"zero_stage": stage} for stage in (1, 2, 3)),
    {"offload": "cpu"},
    {"offload": "cpu", "zero_stage": 2},
    {"offload": "cpu", "zero_stage": 3},
)
"""What can be tried in the place of what does not fit, the smallest change first."""


class MemoryForecast:
    """What the ranks of one machine need by the parameters of a run.

    Attributes:
        parameters: numbers of the model, and of the matrices that Muon works on.
        shape: of a Llama, whose activations are forecast; None of other models.
    """

    def __init__(
        self, params: "PlannedParams", model: Any, context_length: int, ranks: int, ranks_here: int, device: str
    ) -> None:
        self.params, self.ranks, self.ranks_here, self.on_cpu = params, ranks, ranks_here, device == "cpu"
        roles, sizes = weight_roles(model), {name: weight.numel() for name, weight in model.named_parameters()}
        matrices = sum(size for name, size in sizes.items() if roles[name].role == "matrix")
        self.parameters = Parameters(sum(sizes.values()), matrices, 0, 0)
        self.shape = llama_shape(model, context_length)
        batches = params.batch_tokens.parts(context_length * ranks).numbers
        self.rows = max(split_rows(rows, params.micro_batch_rows)[0] for rows in batches)

    def needed(self, **changes: Any) -> tuple[float, float, Memory]:
        """(bytes on the device, of all ranks here where that is a CPU; bytes of the host beside it; a rank's parts).

        `changes`: of zero_stage and offload.
        """
        stage = changes.get("zero_stage", self.params.zero_stage)
        offload = changes.get("offload", self.params.offload)
        optimizer = "adamw" if self.params.optimizer == "adamw" else "muon"
        bits = "fp32" if self.params.precision == "fp32" else "bf16"
        each = state_memory(self.parameters, optimizer=optimizer, precision=bits, zero_stage=stage, ranks=self.ranks)  # type: ignore[arg-type]
        kept = 0.0 if offload == "nvme" and stage == 3 else each.optimizer  # the rest is in files
        if self.on_cpu:
            return (each.weights + each.gradients + kept) * self.ranks_here, 0.0, each
        if offload and stage:
            return each.weights, (each.gradients + kept) * self.ranks_here, each
        return each.total, 0.0, each

    def activations(self, rows: int) -> float:
        """Bytes that the activations of `rows` rows take on a rank; 0 where they are not forecast."""
        bits = "fp32" if self.params.precision == "fp32" else "bf16"
        again = self.params.activation_checkpointing
        return activation_bytes(self.shape, rows, bits, again) if self.shape else 0.0  # type: ignore[arg-type]

    def fits(self, free: int, free_host: int, **changes: Any) -> bool:
        device, host, _ = self.needed(**changes)
        return device <= free and host <= free_host

    def text(self) -> str:
        """The forecast in words."""
        device, host, each = self.needed()
        params = self.params
        parts = f"weights {_gib(each.weights)}, gradients {_gib(each.gradients)}, optimizer {_gib(each.optimizer)}"
        of = f"{self.ranks_here} ranks on this machine" if self.on_cpu and self.ranks_here > 1 else "a rank"
        beside = f", and {_gib(host)} of the host's for {self.ranks_here} ranks" if host else ""
        return (
            f"{_gib(device)} for {of}{beside} ({parts} a rank) of {self.parameters.total:,} parameters in {params.precision} at "
            f"ZeRO stage {params.zero_stage} of {self.ranks}"
        )

    def remedies(self, free: int, free_host: int) -> Iterator[str]:
        """What would fit, with its estimate."""
        params = self.params
        for change in CHANGES:
            kept = {key: getattr(params, key) for key in change}
            if (
                change == kept
                or change.get("zero_stage", 4) < params.zero_stage
                or ("offload" in change and self.on_cpu)
            ):
                continue
            if "offload" in change and not change.get("zero_stage", params.zero_stage):
                continue
            if self.fits(free, free_host, **change):
                named = ", ".join(f"pretrain.{key}: {value}" for key, value in change.items())
                yield f"{named} ({_gib(self.needed(**change)[0])})"
        device, host, _ = self.needed()
        share = min(free / device, free_host / host if host else 1.0)
        if share < 1:
            most = int(share * self.parameters.total)
            most -= most % 10 ** max(0, len(str(most)) - 2)
            yield f"a smaller model (pretrain.layers, pretrain.hidden), of at most about {most:,} parameters"


def check_memory(
    params: "PlannedParams", config: dict[str, Any], group: "ProcessGroup", packed: dict[str, Any]
) -> None:
    """Refuse what cannot fit on this rank, warn of what hardly will, and put what helps into `config` for when it does not.

    Collective: all ranks have looked before one of them takes any.

    Raises:
        UserError: weights, gradients and optimizer alone need more than is free.
    """
    start = Path(config["start"]) if config.get("start") else None
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    model = outline_model(params, packed, start)
    forecast = MemoryForecast(params, model, packed["context_length"], group.size, ranks_here, group.device.type)
    (free, whose), (free_host, _) = free_bytes(group.device), free_host_bytes()
    group.barrier()
    config["memory"] = f"The forecast: {forecast.text()}, {_with_rows(forecast)}; free before: {_gib(free)} of {whose}"
    if not forecast.fits(free, free_host):
        host = f", and of the host {_gib(free_host)}" if group.device.type == "cuda" and params.offload else ""
        raise UserError(
            f"pretrain: too little memory: {forecast.text()} are needed before a row is read, and {_gib(free)} of {whose} are "
            f"free{host}. What fits by the same estimate: {'; or '.join(forecast.remedies(free, free_host))}"
        )
    if group.is_rank_zero:
        left = (free - forecast.needed()[0]) / (ranks_here if forecast.on_cpu else 1)
        if forecast.activations(forecast.rows) > left:
            fitting = (rows for rows in range(forecast.rows, 0, -1) if forecast.activations(rows) <= left)
            again = "" if params.activation_checkpointing else ", or set pretrain.activation_checkpointing: true"
            log.warning(
                "memory may not do: %s, %s, and %s of %s are free. If it ends for lack of memory, lower pretrain.micro_batch_rows "
                "to %d%s",
                *(forecast.text(), _with_rows(forecast), _gib(free), whose, next(fitting, 1), again),
            )


def _with_rows(forecast: MemoryForecast) -> str:
    if forecast.shape is None:
        return "activations not forecast"
    size = forecast.activations(forecast.rows)
    return f"{_gib(size)} a rank for the activations of {forecast.rows} rows at a time"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.1f} MiB"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the process has no memory left."""
    import torch

    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
    )


def out_of_memory_message(error: BaseException, config: dict[str, Any]) -> str:
    """What a user is told then."""
    reason = " ".join(str(error).split())[:200]
    return (
        f"pretrain: out of memory while training ({reason}). {config.get('memory', '')}. Lower pretrain.micro_batch_rows or set "
        "pretrain.activation_checkpointing: true, which change the result by rounding only; or raise pretrain.zero_stage, set "
        "pretrain.offload: cpu (GPUs), or take a smaller model. Start again to continue from the last checkpoint"
    )
