"""Throughput and MFU: tokens per second, and the share of the machine's arithmetic that training uses (MFU)."""

import logging
import time

import torch

from tasks.pretrain.distributed import ProcessGroup

log = logging.getLogger(__name__)
SECONDS_OF_PRODUCTS = 0.5
"""How long matrix products are timed, at least: a clock that is raised only under load has then been raised."""


class Throughput:
    """Counts tokens and seconds of training steps, without validation and checkpoints.

    MFU = FLOP/s / peak; FLOPs by the convention of `training_flops_per_token`, peak measured here by
    matrix products on the same device with the same threads, times the ranks: before the training and after it, since what
    else runs on the machine makes it smaller. The larger counts.
    """

    def __init__(self, group: ProcessGroup, precision: str) -> None:
        self.group, self.precision = group, precision
        self.peak_flops = self._peak()
        self.tokens, self.seconds, self.steps = 0, 0.0, 0
        self.flops: int | None = 0

    def _peak(self) -> float:
        return self.group.all_reduce_sum(peak_flops(self.group.device, self.precision))[0]

    def count(self, tokens: int, seconds: float, flops_per_token: int | None, computed: int | None = None) -> None:
        """Count one step, of `tokens` that were predicted; the first warms up and is left out.

        `flops_per_token`: None where it is not known; there is no MFU then. `computed`: tokens that the model passed, where
        those are more: of an encoder all of a row, not the hidden ones alone.
        """
        self.steps += 1
        if self.steps > 1:
            self.tokens += tokens
            passed = tokens if computed is None else computed
            if self.flops is not None:
                self.flops = None if flops_per_token is None else self.flops + passed * flops_per_token
            self.seconds += seconds

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    def timings(self) -> dict[str, float]:
        """tokens_per_second, mfu, peak_flops [1/s]; on a GPU gpu_peak_bytes, the most that tensors took of its memory.

        Called once, at the end, on all ranks. A share above 1 is none: it is left out, with a warning.
        """
        measured = {"tokens_per_second": self.tokens_per_second}
        if self.group.device.type == "cuda":  # before products take some
            measured["gpu_peak_bytes"] = float(torch.cuda.max_memory_allocated(self.group.device))
        measured["peak_flops"] = max(self.peak_flops, self._peak())
        if self.flops is None or not self.seconds:
            return measured
        mfu = self.flops / self.seconds / measured["peak_flops"]
        if mfu <= 1:
            measured["mfu"] = mfu
        elif self.group.is_rank_zero:
            log.warning(
                "MFU would be %.2f: the peak (%.3g FLOP/s) was measured while something else used the machine, before and "
                "after training. It is left out",
                mfu,
                measured["peak_flops"],
            )
        return measured


def peak_flops(device: torch.device, precision: str) -> float:
    """FLOP/s of square matrix products of random numbers: the best of those that fit into `SECONDS_OF_PRODUCTS`.

    Random, for processors are quicker on constant data: they switch fewer bits and clock higher
    (https://www.thonking.ai/p/strangely-matrix-multiplications).
    """
    size = 8192 if device.type == "cuda" else 1536
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    numbers = torch.Generator(device).manual_seed(0)  # of its own: the training's stay as they are
    left, right = (torch.randn(size, size, device=device, dtype=kind, generator=numbers) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < SECONDS_OF_PRODUCTS or best == float("inf"):
        started = time.perf_counter()
        torch.matmul(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best
