"""What the contenders share, with nothing but numpy and torch: their settings, the clock, the rows, the score."""

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

SCORED_AT_ONCE = 16
"""Held-out rows."""


def settings() -> dict[str, Any]:
    """CONFIG, with the number of threads set and the seed sown."""
    config: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(config["threads"])
    torch.manual_seed(config["seed"])
    return config


class Clock:
    """Tokens, and seconds of the processor and of the wall, from the end of the first step on: compiling is left out."""

    def __init__(self) -> None:
        self.first = self.last = (0.0, 0.0)
        self.tokens = self.steps = 0

    def step(self, tokens: int) -> None:
        """Call at the end of each step."""
        self.last = (time.process_time(), time.perf_counter())
        if self.steps:
            self.tokens += tokens
        else:
            self.first = self.last
        self.steps += 1

    def report(self, bits_per_byte: float, flops_per_token: int, parameters: int) -> None:
        """Print the result."""
        cpu, wall = (last - first for last, first in zip(self.last, self.first, strict=True))
        show(self.tokens, cpu, wall, bits_per_byte, flops_per_token, parameters)


def show(tokens: int, cpu: float, wall: float, bits_per_byte: float, flops_per_token: int, parameters: int) -> None:
    """Print the result, and the processor time of the whole process, its start and its scoring included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(
        json.dumps(
            {
                "tokens": tokens,
                "cpu_seconds": cpu,
                "seconds": wall,
                "bits_per_byte": bits_per_byte,
                "flops_per_token": flops_per_token,
                "parameters": parameters,
                "whole_cpu_seconds": sum(each.ru_utime + each.ru_stime for each in used),
            }
        ),
        flush=True,
    )


def random_rows(config: dict[str, Any]) -> Iterable[torch.Tensor]:
    """Without end: int64 [batch_rows, context + 1] from random places of train.bin, as nanoGPT reads it."""
    tokens = np.memmap(Path(config["folder"]) / "train.bin", dtype=np.uint16, mode="r")
    random, length = np.random.default_rng(config["seed"]), config["context"] + 1
    while True:
        starts = random.integers(0, len(tokens) - length, config["batch_rows"])
        yield torch.from_numpy(np.stack([tokens[start : start + length] for start in starts]).astype(np.int64))


@torch.no_grad()
def held_out_bits_per_byte(config: dict[str, Any], logits: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Bits per byte of the held-out rows, one document each, from its beginning: nats / ln 2 / UTF-8 bytes of what is predicted.

    `logits`: int64 [rows, context] to [rows, context, vocabulary].
    """
    folder = Path(config["folder"])
    rows = torch.from_numpy(np.load(folder / "held_out.npy"))
    token_bytes = np.load(folder / "token_bytes.npy")
    nats = size = 0.0
    for start in range(0, len(rows), SCORED_AT_ONCE):
        batch = rows[start : start + SCORED_AT_ONCE]
        inputs, targets = batch[:, :-1].clamp(min=0), batch[:, 1:]
        scores = logits(inputs).float().flatten(0, 1)
        nats += float(functional.cross_entropy(scores, targets.flatten(), ignore_index=-1, reduction="sum"))
        size += float(token_bytes[targets[targets >= 0].numpy()].sum())
    return nats / math.log(2) / size


def flops_per_token(config: dict[str, Any], matrices: int) -> int:
    """6N + 12·L·H·Q·T (PaLM, arXiv:2204.02311): N weights of matrices that multiply, the head's among them, no look-ups."""
    return 6 * matrices + 12 * config["layers"] * config["hidden"] * config["context"]


def matrices(model: torch.nn.Module) -> int:
    """Weights of linear layers, each once."""
    found = {id(layer.weight): layer.weight for layer in model.modules() if isinstance(layer, torch.nn.Linear)}
    return sum(weight.numel() for weight in found.values())


def parameters(model: torch.nn.Module) -> int:
    """All weights, each once."""
    return sum(parameter.numel() for parameter in model.parameters())
