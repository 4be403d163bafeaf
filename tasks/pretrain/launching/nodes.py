"""The machines of a training run, and how a command is started on each: a hostfile over ssh, a Slurm allocation, a Kubernetes Job.

Node 0 is the machine that runs the stage. On it the process group's address is opened; it starts the other nodes, except
under Kubernetes, where every pod is started by the Job.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.core.errors import UserError
from tasks.core.execution import Execution

SLURM, KUBERNETES = "slurm", "kubernetes"
DEFAULT_PORT = 29500
"""torch.distributed.run's own. Where a pod is started by nobody but the Job, both sides must know the port beforehand."""
HOST_LINE = re.compile(r"(?P<host>[A-Za-z0-9_.:-]+)\s+slots\s*=\s*(?P<slots>[1-9][0-9]*)")


@dataclass(frozen=True)
class Node:
    """A machine: its name for the others, how many ranks run there, and the words before a shell command that start it there."""

    host: str
    ranks: int
    start: tuple[str, ...] = ()


def find_nodes(execution: Execution) -> list[Node]:
    """The nodes of this run, node 0 (this machine) first; one where `execution.nodes` is null.

    Raises:
        UserError: a hostfile that cannot be read or does not name this machine, no allocation of Slurm, no Job of Kubernetes.
    """
    match execution.nodes:
        case None:
            return [Node("localhost", execution.rank_count())]
        case "slurm":
            return _slurm_nodes(execution, os.environ)
        case "kubernetes":
            return _pods(execution, os.environ)
        case path:
            return _hostfile_nodes(execution, Path(path))


def rendezvous_port(nodes: list[Node], execution: Execution) -> int:
    """The port of node 0 where the nodes meet: `execution.port`, or one that is free."""
    if execution.port != "auto":
        return execution.port
    if execution.nodes == KUBERNETES:
        return int(os.environ.get("PET_MASTER_PORT", DEFAULT_PORT))
    if len(nodes) == 1:
        return 0
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


def read_hostfile(path: Path) -> list[tuple[str, int]]:
    """Hosts and their ranks, in the form of DeepSpeed's hostfile: `host slots=N` a line, `#` begins a comment.

    Raises:
        UserError: no such file, a line of another form, a host twice, no host.
    """
    if not path.is_file():
        raise UserError(
            f"execution.yaml: nodes: {path}: no such file. Give the path of a hostfile, `slurm`, `kubernetes` or null"
        )
    hosts: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = HOST_LINE.fullmatch(text)
        if found is None:
            raise UserError(f"{path}: line {number}: {text!r} is not of the form `host slots=N`, N from 1 up")
        if found["host"] in hosts:
            raise UserError(f"{path}: line {number}: {found['host']} is named twice. Add up its slots in one line")
        hosts[found["host"]] = int(found["slots"])
    if not hosts:
        raise UserError(f"{path}: names no host. Write a line `host slots=N` for each machine")
    return list(hosts.items())


def _hostfile_nodes(execution: Execution, path: Path) -> list[Node]:
    hosts = read_hostfile(path)
    if execution.ranks != "auto":
        raise UserError(
            f"execution.yaml: ranks: {execution.ranks}: {path} says by its slots how many ranks a machine has. Set ranks: auto"
        )
    own = next((each for each in hosts if is_this_machine(each[0])), None)
    if own is None:
        names = ", ".join(host for host, _ in hosts)
        raise UserError(
            f"{path}: none of its hosts ({names}) is this machine ({socket.gethostname()}). Start on one of them, or add it"
        )
    others = [each for each in hosts if each is not own]
    if others and _loopback(own[0]) and not all(is_this_machine(host) for host, _ in others):
        raise UserError(
            f"{path}: {own[0]}: no other machine reaches this one by that name. Write its name in the network"
        )
    if others:
        _require_program(shlex.split(execution.remote_shell)[0], "execution.yaml: remote_shell")
    shell = tuple(shlex.split(execution.remote_shell))
    return [Node(*own), *(Node(host, slots, (*shell, host)) for host, slots in others)]


def _slurm_nodes(execution: Execution, environment: Mapping[str, str]) -> list[Node]:
    names = environment.get("SLURM_JOB_NODELIST")
    if not names:
        raise UserError(
            "execution.yaml: nodes: slurm: this is no job of Slurm (SLURM_JOB_NODELIST is not set). "
            "Start by: sbatch infra/slurm/pretrain.sbatch"
        )
    for program in ("scontrol", "srun"):
        _require_program(program, "execution.yaml: nodes: slurm")
    listed = subprocess.run(["scontrol", "show", "hostnames", names], capture_output=True, text=True, check=False)
    if listed.returncode:
        raise UserError(f"execution.yaml: nodes: slurm: scontrol show hostnames {names}: {listed.stderr.strip()}")
    hosts, own = listed.stdout.split(), environment.get("SLURMD_NODENAME", "")
    if own not in hosts:
        raise UserError(
            f"execution.yaml: nodes: slurm: {own or socket.gethostname()} is not among the job's nodes ({', '.join(hosts)}). "
            "Start the stage inside the job, by sbatch, not from where you log in"
        )
    ranks = execution.rank_count()
    # A step does not inherit the number of cores (Slurm 22.05 and newer), and would be bound to one.
    cores = environment.get("SLURM_CPUS_PER_TASK") or environment.get("SLURM_CPUS_ON_NODE")
    start = ["srun", "--nodes=1", "--ntasks=1", "--export=ALL", *([f"--cpus-per-task={cores}"] if cores else [])]
    others = [host for host in hosts if host != own]
    return [Node(own, ranks), *(Node(host, ranks, (*start, f"--nodelist={host}", "sh", "-c")) for host in others)]


def _pods(execution: Execution, environment: Mapping[str, str]) -> list[Node]:
    index = environment.get("JOB_COMPLETION_INDEX")
    count, address = environment.get("PET_NNODES"), environment.get("PET_MASTER_ADDR")
    if index is None or not address or not (count or "").isdigit():
        raise UserError(
            "execution.yaml: nodes: kubernetes: JOB_COMPLETION_INDEX, PET_NNODES and PET_MASTER_ADDR must be set, as "
            "infra/kubernetes/pretrain.yaml does. Start by: kubectl apply -f infra/kubernetes/pretrain.yaml"
        )
    if index != "0":
        raise UserError(
            f"execution.yaml: nodes: kubernetes: this is pod {index}: the stage runs in pod 0. "
            "Here run: python -m tasks.pretrain.launching.node --wait"
        )
    ranks = execution.rank_count()
    return [Node(address, ranks), *(Node(f"pod {number}", ranks) for number in range(1, int(count or 1)))]


def is_this_machine(host: str) -> bool:
    """Whether `host` names this machine: its name, or an address of one of its interfaces."""
    own = socket.gethostname()
    if _loopback(host) or host in (own, own.partition(".")[0]):
        return True
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    here = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return bool(found & here)


def _loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def all_on_loopback(nodes: list[Node]) -> bool:
    """Whether no rank needs the network."""
    return all(_loopback(node.host) for node in nodes)


def _require_program(name: str, where: str) -> None:
    if shutil.which(name) is None:
        raise UserError(f"{where}: {name}: no such program in PATH")
