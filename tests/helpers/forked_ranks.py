"""Ranks forked from a process that has loaded PyTorch, transformers and DeepSpeed: what is tested begins after a blink.

The launcher itself (`torch.distributed.run`, a process a rank) is what tests go through that start the stage in a process of
its own (`start_apart`), or on nodes.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from tasks.pretrain.launching import launch
from tasks.pretrain.launching.nodes import Node
from tests.helpers.checkout import ROOT

CONTEXT = multiprocessing.get_context("forkserver")


def start_forking_process() -> None:
    """It loads what this environment leads to, once for all tests of this process."""
    CONTEXT.set_forkserver_preload(["tests.helpers.loaded_rank"])
    before = dict(os.environ)
    os.environ |= {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


class Streams:
    """Standard output and error of the process that sends it, and not those of the one that was there to be forked."""

    def __reduce__(self) -> Any:
        return _received, (reduction.DupFd(1), reduction.DupFd(2))


def _received(output: Any, errors: Any) -> list[int]:
    return [output.detach(), errors.detach()]


def run_rank(streams: list[int], environment: dict[str, str], folder: str, arguments: list[str]) -> None:
    """What `python -m tasks.pretrain.rank` does, in this process."""
    os.setsid()
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["rank", *arguments]
    from tasks.pretrain.rank import main

    sys.exit(main())


class ForkedRanks:
    """Stands for the process that `launch.start_ranks` starts: the ranks of one node, ended together when one fails."""

    def __init__(self, config_path: Path, config: dict[str, Any], node: int) -> None:
        start_forking_process()
        (ranks,) = (count for _, count in config["nodes"])
        environment = launch._environment([Node("localhost", ranks)], config["device"], config["threads"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        self.ranks = []
        for rank in range(ranks):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
            own = environment | {name: str(number) for name, number in place.items()}
            arguments = (Streams(), own, str(Path.cwd()), ["--config", str(config_path)])
            self.ranks.append(CONTEXT.Process(target=run_rank, args=arguments))
            self.ranks[-1].start()

    def poll(self) -> int | None:
        codes = [rank.exitcode for rank in self.ranks]
        failed = [code for code in codes if code]
        if None not in codes:
            return failed[0] if failed else 0
        if failed:
            self.send_signal(signal.SIGTERM)
        return None

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("ranks", timeout or 0)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        for rank in self.ranks:
            if rank.pid and rank.exitcode is None:
                os.kill(rank.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
