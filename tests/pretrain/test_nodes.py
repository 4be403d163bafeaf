"""Several machines: hostfiles, Slurm and Kubernetes, the same checkout everywhere, and two nodes on loopback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from tasks.core.execution import Execution
from tasks.pretrain.launching import nodes
from tasks.pretrain.launching.nodes import Node, find_nodes, read_hostfile
from tasks.pretrain.launching.same_checkout import fingerprint, require_same
from tests.helpers.checkout import ROOT
from tests.helpers.pretraining import (
    files,
    free_port,
    pretrain,
    project,
    stage_apart,
    start_apart,
    steps_written,
    wait_for,
)

SHELL = '#!/bin/sh\nshift\nexec sh -c "$*"\n'
"""Does to a host's name and a command what ssh does, here."""


def two_nodes(root: Path) -> str:
    """Two machines that are this one, in words of execution.yaml."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "hostfile").write_text("127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
    (root / "shell").write_text(SHELL)
    (root / "shell").chmod(0o755)
    return f"nodes: {root / 'hostfile'}\nremote_shell: {root / 'shell'}\n"


def test_hostfile(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("# the rack\nnode-1 slots=8\n\nnode-2.lan   slots = 4 # old\n10.0.0.3 slots=2\n")
    assert read_hostfile(path) == [("node-1", 8), ("node-2.lan", 4), ("10.0.0.3", 2)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("node-1\n", r"line 1: 'node-1' is not of the form `host slots=N`"),
        ("a slots=2\nb slots=0\n", "line 2"),
        ("a slots=2\nb slots=two\n", "line 2"),
        ("a slots=2\n-oProxyCommand=evil slots=2 \n; slots=1\n", "line 2|line 3"),
        ("a slots=2\na slots=2\n", "line 2: a is named twice"),
        ("# nobody\n", "names no host"),
    ],
)
def test_hostfile_mistakes(tmp_path, text, said):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(UserError, match=said):
        read_hostfile(tmp_path / "hosts")


def test_this_machine_is_node_0_wherever_it_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(nodes, "is_this_machine", lambda host: host == "second")
    (tmp_path / "hosts").write_text("first slots=4\nsecond slots=2\n")
    found = find_nodes(Execution(nodes=str(tmp_path / "hosts"), remote_shell="sh -p", device="cpu"))
    assert found == [Node("second", 2), Node("first", 4, ("sh", "-p", "first"))]


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("far-away.invalid slots=1\n", {}, "none of its hosts"),
        ("localhost slots=1\nfar-away.invalid slots=1\n", {}, "no other machine reaches this one by that name"),
        ("localhost slots=1\n127.0.0.2 slots=1\n", {"remote_shell": "no-such-shell"}, "no such program"),
        ("localhost slots=1\n", {"ranks": 2}, "Set ranks: auto"),
        (None, {}, "no such file"),
    ],
)
def test_nodes_mistakes(tmp_path, text, settings, said):
    if text:
        (tmp_path / "hosts").write_text(text)
    with pytest.raises(UserError, match=said):
        find_nodes(Execution(nodes=str(tmp_path / "hosts"), device="cpu", **settings))


@pytest.mark.parametrize("kind", ["slurm", "kubernetes"])
def test_outside_a_job(kind, monkeypatch):
    for name in ("SLURM_JOB_NODELIST", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=f"nodes: {kind}: .* Start by: "):
        find_nodes(Execution(nodes=kind, device="cpu"))


def test_pods(monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    monkeypatch.setenv("PET_NNODES", "3")
    monkeypatch.setenv("PET_MASTER_ADDR", "pretrain-0.pretrain")
    execution = Execution(nodes="kubernetes", ranks=8, device="cpu")
    assert find_nodes(execution) == [Node("pretrain-0.pretrain", 8), Node("pod 1", 8), Node("pod 2", 8)]
    assert nodes.rendezvous_port(find_nodes(execution), execution) == 29500
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    with pytest.raises(UserError, match=r"python -m tasks\.pretrain\.launching\.node --wait"):
        find_nodes(execution)


def test_another_checkout_is_refused(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/tokens.bin").write_bytes(bytes(100))
    first = fingerprint({"pack": str(tmp_path / "pack")})
    require_same(fingerprint({"pack": str(tmp_path / "pack")}), first, "node-2")
    (tmp_path / "pack/tokens.bin").write_bytes(bytes(99) + b"1")
    with pytest.raises(UserError, match=r"node-2: is not what the first machine has: pack \(.*same path"):
        require_same(fingerprint({"pack": str(tmp_path / "pack")}), first, "node-2")
    with pytest.raises(UserError, match=r"packages: here torch 1, there torch"):
        require_same({**first, "packages": "torch 1"}, first, "node-2")


def test_the_job_of_kubernetes_fits_the_code(monkeypatch):
    """What its schema cannot know (kubernetes-validate --strict infra/kubernetes/pretrain.yaml checks that)."""
    service, job = yaml.safe_load_all((ROOT / "infra/kubernetes/pretrain.yaml").read_text())
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert str(spec["completions"]) == str(spec["parallelism"]) == environment["PET_NNODES"]
    assert pod["restartPolicy"] == "Never"  # else there can be no podFailurePolicy
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert environment["PET_MASTER_ADDR"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert service["spec"]["ports"][0]["port"] == container["ports"][0]["containerPort"]
    codes = {
        rule["action"]: rule["onExitCodes"]["values"]
        for rule in spec["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert codes == {"FailJob": [EXIT_USER_ERROR], "Ignore": [EXIT_INTERRUPTED]}
    for name, value in {**environment, "JOB_COMPLETION_INDEX": "0"}.items():
        monkeypatch.setenv(name, value)
    execution = Execution(nodes="kubernetes", device="cpu")
    assert len(find_nodes(execution)) == spec["completions"]
    assert nodes.rendezvous_port(find_nodes(execution), execution) == service["spec"]["ports"][0]["port"]


@pytest.mark.slow
def test_two_pods_learn_what_two_ranks_learn(tmp_path, inputs, together, monkeypatch):
    state = tmp_path / ".textmill"
    state.mkdir()
    (state / "training-node.json").write_text('{"config": "/of/an/earlier/run.json"}')
    waiting = [sys.executable, "-m", "tasks.pretrain.launching.node", "--wait"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JOB_COMPLETION_INDEX": "1"}
    with (tmp_path / "pod.txt").open("w") as said:
        pod = subprocess.Popen(waiting, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stderr=said)
    for name, value in {"JOB_COMPLETION_INDEX": "0", "PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    process = start_apart(tmp_path, inputs, f"nodes: kubernetes\nport: {free_port()}\n")
    assert process.wait(120) == 0, (tmp_path / "stderr.txt").read_text()
    assert pod.wait(60) == 0, (tmp_path / "pod.txt").read_text()
    assert files(tmp_path / "out") == together


SRUN = """#!/bin/sh
for option in "$@"; do
  [ "$option" = sh ] && exec "$@"
  echo "$option" >> "$SRUN_LOG"
  shift
done
"""
SCONTROL = """#!/bin/sh
case "$1" in
  show) printf '127.0.0.1\\n127.0.0.2\\n' ;;
  requeue) echo "$2" > "$SRUN_LOG.requeued" ;;
esac
"""


@pytest.mark.slow
def test_a_job_of_slurm_is_stopped_requeued_and_ends_as_if_nothing_had_been(tmp_path, inputs, monkeypatch):
    script = ROOT / "infra/slurm/pretrain.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    longer = {"steps": 40, "checkpoint_every": 1000}
    _, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, ranks=2, **longer)
    for path, text in {
        "bin/srun": SRUN,
        "bin/scontrol": SCONTROL,
        ".venv/bin/python": f'#!/bin/sh\nexec {sys.executable} -c "$STAGE" "$PARAMS" "$INPUTS"\n',  # not the whole pipeline
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    job = {"JOB_ID": "7", "SUBMIT_DIR": str(tmp_path), "JOB_NODELIST": "127.0.0.[1-2]", "CPUS_PER_TASK": "1"}
    environment = {**os.environ, **{f"SLURM_{name}": value for name, value in job.items()}}
    environment |= {"SLURMD_NODENAME": "127.0.0.1", "SRUN_LOG": str(tmp_path / "srun"), "PYTHONPATH": str(ROOT)}
    environment |= dict(zip(("STAGE", "PARAMS", "INPUTS"), stage_apart(inputs, **longer), strict=True))

    project(tmp_path, 1, "nodes: null\n")
    assert subprocess.run(["bash", script], env=environment, stderr=subprocess.DEVNULL, check=False).returncode == 2
    for code in (75, 0):
        project(tmp_path, 1, "nodes: slurm\n")
        batch = subprocess.Popen(["bash", script], env=environment)
        if code:
            wait_for(lambda: steps_written(tmp_path) >= 5)
            batch.send_signal(signal.SIGTERM)
        assert batch.wait(120) == code
    assert (tmp_path / "srun.requeued").read_text() == "7\n"
    assert "--nodelist=127.0.0.2\n" in (tmp_path / "srun").read_text()
    assert "--cpus-per-task=1\n" in (tmp_path / "srun").read_text()
    assert files(tmp_path / "out") == files(whole.root)


@pytest.fixture(scope="module")
def together(tmp_path_factory, inputs) -> dict[str, bytes]:
    """What two ranks of one machine leave."""
    with pytest.MonkeyPatch.context() as patch:
        return files(pretrain(tmp_path_factory.mktemp("together"), inputs, patch, ranks=2)[1].root)


@pytest.mark.slow
def test_two_nodes_learn_what_two_ranks_learn(tmp_path, inputs, together):
    process = start_apart(tmp_path, inputs, two_nodes(tmp_path))
    assert process.wait(120) == 0, (tmp_path / "stderr.txt").read_text()
    assert all(json.loads((tmp_path / f"work/ranks/{rank}.json").read_text())["beats"] for rank in (0, 1))
    assert files(tmp_path / "out") == together


@pytest.mark.slow
def test_sigterm_stops_all_nodes_at_one_step(tmp_path, inputs, monkeypatch):
    execution = two_nodes(tmp_path)
    process = start_apart(tmp_path, inputs, execution, steps=4000, checkpoint_every=4000, validation_every=4000)
    wait_for(lambda: steps_written(tmp_path) >= 5)
    ranks = rank_processes(process)
    assert len(ranks) == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    wait_for(lambda: all(ended(rank) for rank in ranks), 30)
    [saved] = (tmp_path / "work/checkpoints").glob("step-*")
    assert len(list(saved.glob("rank-*.safetensors"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["rank", "launcher"])
def test_a_node_that_dies_ends_all(tmp_path, inputs, victim):
    process = start_apart(
        tmp_path, inputs, two_nodes(tmp_path), steps=4000, checkpoint_every=4000, validation_every=4000
    )
    wait_for(lambda: steps_written(tmp_path) >= 5)
    ranks = rank_processes(process)
    [other] = [each for each in psutil.Process(process.pid).children(recursive=True) if "--node" in each.cmdline()]
    target = other if victim == "launcher" else next(rank for rank in ranks if other in rank.parents())
    target.kill()
    assert process.wait(90) == 1
    said = (tmp_path / "stderr.txt").read_text()
    assert "rank 1 on 127.0.0.2" in said.splitlines()[-1], said
    wait_for(lambda: all(ended(rank) for rank in ranks), 30)


@pytest.mark.slow
def test_a_launcher_that_is_killed_takes_the_other_node_along(tmp_path, inputs):
    process = start_apart(
        tmp_path, inputs, two_nodes(tmp_path), steps=4000, checkpoint_every=4000, validation_every=4000
    )
    wait_for(lambda: steps_written(tmp_path) >= 5)
    ranks = rank_processes(process)
    process.kill()
    process.wait()
    wait_for(lambda: all(ended(rank) for rank in ranks), 30)


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # and whoever adopted it takes its time
    except psutil.NoSuchProcess:
        return True


def rank_processes(process: subprocess.Popen) -> list[psutil.Process]:
    found = [(each, each.cmdline()) for each in psutil.Process(process.pid).children(recursive=True)]
    return [
        each for each, line in found if "tasks.pretrain.rank" in line and "tasks.pretrain.launching.launch" not in line
    ]
