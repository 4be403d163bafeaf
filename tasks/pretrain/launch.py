"""Starting the ranks of a training run, stopping them cleanly, and learning how they ended.

One rank is a plain child process; several are started by `torch.distributed.run`. Either way they end with this
process, even when it is killed: each asks the kernel for a signal on its parent's death.
"""

import json
import logging
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.core.errors import Interrupted, UserError
from tasks.core.parallel.processes import end_with_parent
from tasks.core.paths import write_json

log = logging.getLogger(__name__)
PROJECT = Path(__file__).parents[2]
PARTIAL = ".partial"
"""A checkpoint that is being written."""
STOP_TIMEOUT_S = 600
"""How long the ranks may take for the step they are in and their last checkpoint, once asked to stop."""


def run_ranks(
    module: str, config: dict[str, Any], *, work: Path, ranks: int, device: str, threads: int
) -> dict[str, Any]:
    """Run `python -m <module> --config FILE` on `ranks` processes of this machine; returns what rank 0 reported.

    The config file holds `config` and `work`, `device`, `threads`. SIGTERM, and Ctrl-C, that arrive here are passed on.

    Raises:
        UserError: the ranks reported a user's mistake, or one of them was killed.
        Interrupted: the ranks stopped because they were asked to.
        RuntimeError: the ranks failed; their traceback is in the log.
    """
    config_path, outcome_path = work / "config.json", work / "outcome.json"
    write_json(config_path, {**config, "work": str(work), "device": device, "threads": threads})
    outcome_path.unlink(missing_ok=True)
    command = [sys.executable, "-m", module, "--config", str(config_path)]
    if ranks > 1:
        # An address of their own: the host's name, which torch asks for else, need not resolve, and then it waits for minutes.
        options = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={ranks}"]
        options.append(f"--shutdown-timeout={STOP_TIMEOUT_S}")
        command = [sys.executable, "-m", __name__, *options, *command[1:]]
    # Its own session: a terminal's Ctrl-C reaches only this process, which passes it on once.
    process = subprocess.Popen(command, env=_environment(ranks, device, threads), start_new_session=True)
    try:
        code = process.wait()
    except BaseException as stop:
        _stop(process)
        if isinstance(stop, KeyboardInterrupt):
            raise Interrupted("SIGINT") from None
        raise
    outcome: dict[str, Any] = json.loads(outcome_path.read_text()) if outcome_path.exists() else {}
    match outcome.get("status"):
        case "finished" if code == 0:
            return outcome
        case "interrupted":
            raise Interrupted("the ranks were stopped")
        case "mistake":
            raise UserError(outcome["message"])
        case "failed":
            raise RuntimeError(f"{module}: {outcome['message']}")
    raise UserError(
        f"{module}: a training process ended with {_describe(code)} and left no message. If it was killed for memory, "
        "lower micro_batch_rows or the model's size, or use fewer ranks. Start again to continue from its last checkpoint"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        log.warning("the ranks did not stop within %d s and are killed", STOP_TIMEOUT_S)
        process.kill()
        process.wait()


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _environment(ranks: int, device: str, threads: int) -> dict[str, str]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), environment.get("PYTHONPATH")]))
    environment |= {"DS_ACCELERATOR": device, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    if ranks == 1:
        environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    if device == "cuda":
        environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else its matrix products differ from run to run
    else:
        # Activations are freed and asked for again in every step: give none back to the kernel (12% faster).
        environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
        if sys.platform == "linux":
            environment.setdefault(
                "GLOO_SOCKET_IFNAME", "lo"
            )  # all ranks are here, whatever the host's name resolves to
    return environment


if __name__ == "__main__":
    end_with_parent(signal.SIGKILL)
    runpy.run_module("torch.distributed.run", run_name="__main__", alter_sys=True)
