"""The process group: the same code for one rank or many, on CPU (gloo) and CUDA (NCCL)."""

import logging
import os
import signal
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from tasks.core.errors import UserError

if TYPE_CHECKING:
    import torch


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessGroup:
    """One process among the ranks, and the device it computes on."""

    rank: int
    size: int
    device: "torch.device"

    @property
    def is_rank_zero(self) -> bool:
        return self.rank == 0

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Sum each value over the ranks, in fp64."""
        import torch

        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def broadcast(self, value: Any) -> Any:
        """What rank 0 gave as `value`, on every rank."""
        import torch

        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def barrier(self) -> None:
        self.all_reduce_sum(0.0)


def join_group(device: str, threads: int) -> ProcessGroup:
    """Join the process group that the launcher's environment describes (RANK, WORLD_SIZE, LOCAL_RANK, ...).

    Raises:
        UserError: `device` is cuda and there is no GPU for this rank.
    """
    import torch

    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    torch.set_num_threads(threads)
    if device == "cuda":
        if torch.cuda.device_count() <= local:
            raise UserError(
                f"execution.yaml: rank {local} of this machine finds no GPU: {torch.cuda.device_count()} are visible. "
                "Lower `ranks`, or set `device: cpu`"
            )
        torch.cuda.set_device(local)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # else each new tensor is written twice
    backend = "nccl" if device == "cuda" else "gloo"
    if size == 1:  # no port, no rendezvous
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    else:
        torch.distributed.init_process_group(backend)
    return ProcessGroup(rank, size, torch.device(device, local) if device == "cuda" else torch.device("cpu"))


class StopFlag:
    """Remembers that SIGTERM or SIGINT arrived, so that the ranks can stop together at the end of a step."""

    def __init__(self) -> None:
        self.raised = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._raise)

    def _raise(self, number: int, _: FrameType | None) -> None:
        self.raised = True
        log.info("%s arrived: stopping after this step", signal.Signals(number).name)
