"""Starting the ranks of a training run on one machine or several, stopping them cleanly, and learning how they ended.

One rank is a plain child process; several are started by `torch.distributed.run`, once on each node. Either way they end
with this process, even when it is killed: each asks the kernel for a signal on its parent's death, and on another node the
launcher ends when the pipe from here closes or this one's file is no longer written.
"""

import logging
import os
import runpy
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.core.errors import Interrupted, UserError
from tasks.core.parallel.processes import end_with_parent
from tasks.core.paths import state_folder, write_json
from tasks.pretrain.launching import heartbeat, node_state
from tasks.pretrain.launching.node_state import NodeState
from tasks.pretrain.launching.nodes import Node, all_on_loopback
from tasks.pretrain.launching.outcome import describe, host_of, read_outcome
from tasks.pretrain.launching.same_checkout import PROJECT, fingerprint

log = logging.getLogger(__name__)
PARTIAL = ".partial"
"""A checkpoint that is being written."""
STOP_TIMEOUT_S = 600
"""How long the ranks may take for the step they are in and their last checkpoint, once asked to stop."""
PEERS_TIMEOUT_S = 60
"""How long the ranks here may take to end by themselves after another node has ended."""
POLL_S = 0.5
CARRIED = ("NCCL_", "GLOO_", "UCX_", "FI_", "TORCH_", "CUDA_", "HF_")
"""Beginnings of the names of environment variables that other nodes get; ssh carries none by itself."""


def run_ranks(
    module: str,
    config: dict[str, Any],
    *,
    work: Path,
    ranks: int,
    device: str,
    threads: int,
    nodes: Sequence[Node] = (),
    port: int = 0,
    hang_timeout_s: float = 1800,
) -> dict[str, Any]:
    """Run `python -m <module> --config FILE` on `ranks` processes, here or over `nodes`; returns what rank 0 reported.

    The config file holds `config` and `work`, `device`, `threads`. SIGTERM, and Ctrl-C, that arrive here are passed on to
    the ranks of this machine, which agree with the others on the step to stop at.

    Raises:
        UserError: the ranks reported a user's mistake, one of them was killed, a node was lost, or they hung.
        Interrupted: the ranks stopped because they were asked to.
        RuntimeError: the ranks failed; their traceback is in the log.
    """
    nodes = list(nodes) or [Node("localhost", ranks)]
    for old in (work / "outcome.json", *work.glob("outcome-*.json")):
        old.unlink(missing_ok=True)
    heartbeat.forget(work)
    node_state.forget(work)
    config = {**config, "work": str(work), "device": device, "threads": threads, "module": module}
    config["nodes"], config["run"] = [[node.host, node.ranks] for node in nodes], secrets.token_hex(4)
    if len(nodes) > 1:
        config |= {"endpoint": f"{nodes[0].host}:{port}", "fingerprint": fingerprint(config)}
        config["environment"] = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
    write_json(work / "config.json", config)
    state = NodeState(work, config["run"], 0, nodes[0].host)
    state.beat()
    code, lost = 1, None
    others: dict[int, subprocess.Popen[bytes]] = {}
    process = start_ranks(work / "config.json", config, 0)
    try:
        for number, node in enumerate(nodes[1:], 1):
            if node.start:
                others[number] = _start_node(work / "config.json", node, number)
        if len(nodes) > 1 and not others:
            _call_nodes(work / "config.json")
        code, lost = _follow(process, others, state, nodes, heartbeat.Watch(work, ranks, hang_timeout_s))
    except BaseException as stop:
        _stop(process)
        if isinstance(stop, KeyboardInterrupt):
            raise Interrupted("SIGINT") from None
        raise
    finally:
        state.end(code)
        _end_nodes(others, process.poll() == 0)
    return read_outcome(work, module, code, nodes, lost)


def start_ranks(config_path: Path, config: dict[str, Any], node: int) -> subprocess.Popen[bytes]:
    """Start the ranks of node `node` on this machine."""
    nodes = [Node(host, count) for host, count in config["nodes"]]
    total, here = sum(each.ranks for each in nodes), nodes[node].ranks
    command = [sys.executable, "-m", config["module"], "--config", str(config_path)]
    if total > 1:
        # An address of their own: the host's name, which torch asks for else, need not resolve, and then it waits for minutes.
        options = ["--standalone", "--local-addr=127.0.0.1"]
        if len(nodes) > 1:
            options = [f"--nnodes={len(nodes)}", f"--node-rank={node}", f"--rdzv-endpoint={config['endpoint']}"]
            options += ["--rdzv-backend=static", f"--rdzv-id={config['run']}", f"--local-addr={nodes[node].host}"]
        options += [f"--nproc-per-node={here}", f"--shutdown-timeout={STOP_TIMEOUT_S}"]
        command = [sys.executable, "-m", __name__, *options, *command[1:]]
    environment = _environment(nodes, config["device"], config["threads"])
    # Its own session: a terminal's Ctrl-C reaches only this process, which passes it on once.
    return subprocess.Popen(command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL)


def _start_node(config_path: Path, node: Node, number: int) -> subprocess.Popen[bytes]:
    """Start another node's launcher, which lives as long as the pipe to it."""
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    words = ["exec", "env", f"PYTHONPATH={path}", sys.executable, "-m", "tasks.pretrain.launching.node"]
    words += ["--config", str(config_path), "--node", str(number)]
    command = f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(words)}"
    log.info("starting %d ranks on %s", node.ranks, node.host)
    return subprocess.Popen([*node.start, command], stdin=subprocess.PIPE, start_new_session=True)


def _call_nodes(config_path: Path) -> None:
    """Tell nodes that wait for it (`tasks.pretrain.launching.node --wait`) where the run is described."""
    write_json(state_folder(Path.cwd()) / node_state.CALL, {"config": str(config_path)})


def _follow(
    process: subprocess.Popen[bytes],
    others: dict[int, subprocess.Popen[bytes]],
    state: NodeState,
    nodes: Sequence[Node],
    watch: heartbeat.Watch,
) -> tuple[int, str | None]:
    """Wait for the ranks of this machine; returns (their exit code, what is known of a node that was lost).

    Raises:
        UserError: they hung; the message says which rank and where its stack is.
    """
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(POLL_S), None
        state.beat()
        if watch.expired:
            message = _hang(state, nodes, watch)
            process.kill()
            raise UserError(message)
        if lost := _lost_node(others, state, nodes):
            log.error("%s; the ranks on the other machines are ended", lost)
            told = (watch.work / "outcome.json").exists()  # the reason is known: what goes on here is in vain
            try:
                return process.wait(10 * POLL_S if told else PEERS_TIMEOUT_S), lost
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait(), lost


def _lost_node(others: dict[int, subprocess.Popen[bytes]], state: NodeState, nodes: Sequence[Node]) -> str | None:
    for number, node in enumerate(nodes[1:], 1):
        process = others.get(number)
        code = process.poll() if process else state.ended(number)
        if code:
            return f"node {number} ({node.host}) ended with {describe(code)}"
        if code is None and state.gone(number):
            return f"node {number} ({node.host}) has not been heard of for {node_state.GONE_AFTER_S:.0f} s"
    return None


def _hang(state: NodeState, nodes: Sequence[Node], watch: heartbeat.Watch) -> str:
    """Gather the stacks of all ranks, log them, and say which rank stood still."""
    state.ask_for_stacks()
    heartbeat.write_stacks(watch.work, range(nodes[0].ranks))
    stacks = heartbeat.wait_for_stacks(watch.work, watch.ranks)
    for rank, text in stacks.items():
        log.error("stacks of rank %d:\n%s", rank, text)
    hung = heartbeat.hung_ranks(stacks, watch.ranks)
    where = ", ".join(f"rank {rank} on {host_of(nodes, rank)}" for rank in hung)
    files = watch.work / heartbeat.FOLDER / (f"{hung[0]}.stack" if len(hung) == 1 else "*.stack")
    return (
        f"pretrain: no rank has come on for {watch.timeout_s:g} s (execution.yaml: hang_timeout_s). What does not wait for the "
        f"others: {where}; its stacks are in {files}. All ranks were ended; start again to continue from the last checkpoint"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        log.warning("the ranks did not stop within %d s and are killed", STOP_TIMEOUT_S)
        process.kill()
        process.wait()


def _end_nodes(others: dict[int, subprocess.Popen[bytes]], finished: bool) -> None:
    """Let the other nodes end by themselves if the work is done; then close the pipes they live by."""
    for process in others.values():
        if finished:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PEERS_TIMEOUT_S)
        if process.stdin:
            with suppress(OSError):
                process.stdin.close()
    for process in others.values():
        try:
            process.wait(PEERS_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(nodes: Sequence[Node], device: str, threads: int) -> dict[str, str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PET_")
    }  # options of torch's
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), environment.get("PYTHONPATH")]))
    environment |= {"DS_ACCELERATOR": device, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    if sum(node.ranks for node in nodes) == 1:
        environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    if device == "cuda":
        environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else its matrix products differ from run to run
    else:
        # Activations are freed and asked for again in every step: give none back to the kernel (12% faster).
        environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
        if sys.platform == "linux" and all_on_loopback(list(nodes)):
            environment.setdefault(
                "GLOO_SOCKET_IFNAME", "lo"
            )  # all ranks are here, whatever the host's name resolves to
    return environment


if __name__ == "__main__":
    end_with_parent(signal.SIGKILL)
    runpy.run_module("torch.distributed.run", run_name="__main__", alter_sys=True)
