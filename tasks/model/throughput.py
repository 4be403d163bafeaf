"""Tokens per second, and the share of the machine's arithmetic that training uses (MFU)."""

import time

import torch

from tasks.model.distributed import Group


class Throughput:
    """Counts tokens and seconds of training steps, without validation and checkpoints.

    MFU = tokens/s x FLOPs per token / peak; FLOPs by the convention of `training_flops_per_token`, peak measured here
    at the start by a matrix product on the same device with the same threads, times the ranks.
    """

    def __init__(self, group: Group, flops_per_token: int, precision: str) -> None:
        self.flops_per_token, self.device = flops_per_token, group.device
        self.peak_flops = group.total(_peak(group.device, precision))[0]
        self.tokens, self.seconds, self.steps = 0, 0.0, 0

    def count(self, tokens: int, seconds: float) -> None:
        """Count one step; the first warms up and is left out."""
        self.steps += 1
        if self.steps > 1:
            self.tokens += tokens
            self.seconds += seconds

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    def timings(self) -> dict[str, float]:
        """tokens_per_second, mfu, peak_flops [1/s]; on a GPU gpu_peak_bytes, the most that tensors took of its memory."""
        measured = {
            "tokens_per_second": self.tokens_per_second,
            "mfu": self.tokens_per_second * self.flops_per_token / self.peak_flops,
            "peak_flops": self.peak_flops,
        }
        if self.device.type == "cuda":
            measured["gpu_peak_bytes"] = float(torch.cuda.max_memory_allocated(self.device))
        return measured


def _peak(device: torch.device, precision: str) -> float:
    """Measured FLOP/s of the best of a few square matrix products."""
    size = 8192 if device.type == "cuda" else 1536
    left = torch.ones(size, size, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        torch.matmul(left, left)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best
