"""A hung rank ends the run, with the stacks of all."""

import os
import sys
import time

import pytest

from tasks.core.errors import UserError
from tasks.pretrain.launching.heartbeat import FOLDER, Heartbeat, Watch, hung_ranks
from tasks.pretrain.launching.launch import run_ranks
from tasks.pretrain.launching.nodes import Node
from tests.helpers.checkout import ROOT
from tests.helpers.pretraining import free_port

SLEEPER = """
import json, os, sys, time
from pathlib import Path
import torch
from tasks.core.parallel.processes import end_with_parent
from tasks.pretrain.launching import heartbeat
end_with_parent(9)
rank = int(os.environ["RANK"])
heartbeat.start(Path(json.loads(Path(sys.argv[2]).read_text())["work"]), rank)
torch.distributed.init_process_group("gloo")

def read_a_row_that_never_comes():
    time.sleep(600)

for step in range(5):
    if step == 3 and rank == 1:
        read_a_row_that_never_comes()
    torch.distributed.all_reduce(torch.ones(1))
    heartbeat.beat()
"""


@pytest.mark.slow
@pytest.mark.parametrize("machines", [1, 2])
def test_a_hung_rank_ends_the_run_with_the_stacks_of_all(tmp_path, monkeypatch, caplog, machines):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    nodes = [Node("localhost", 2)] if machines == 1 else [Node("127.0.0.1", 1), Node("127.0.0.2", 1, ("sh", "-c"))]
    began = time.monotonic()
    with pytest.raises(
        UserError, match=rf"others: rank 1 on {nodes[-1].host}; its stacks are in {tmp_path}/ranks/1\.stack"
    ):
        run_ranks(
            *("sleeper", {}),
            work=tmp_path,
            ranks=2,
            device="cpu",
            threads=1,
            nodes=nodes,
            port=free_port(),
            hang_timeout_s=3,
        )
    assert time.monotonic() - began < 60
    stacks = {rank: (tmp_path / FOLDER / f"{rank}.stack").read_text() for rank in (0, 1)}
    assert "in read_a_row_that_never_comes" in stacks[1]
    assert "in all_reduce" in stacks[0]
    assert stacks[0] in caplog.text
    assert stacks[1] in caplog.text


def test_the_watch_begins_with_the_first_step_and_heeds_whoever_comes_on(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watch, ranks = Watch(tmp_path, 2, 100), [Heartbeat(tmp_path, rank) for rank in (0, 1)]
    now = 1000.0  # compiling
    assert not watch.expired
    ranks[0].beat()
    assert watch.silent_s() == 0
    now = 1090.0
    ranks[1].beat()
    assert not watch.expired
    now = 1150.0
    assert watch.silent_s() == pytest.approx(60)
    now = 1191.0
    assert watch.expired


def test_who_hangs():
    waits = f'File "{sys.prefix}/torch/distributed/distributed_c10d.py", line 1 in all_reduce'
    assert hung_ranks({0: waits, 1: "in sleep", 2: waits}, 3) == [1]
    assert hung_ranks({0: waits, 2: waits}, 3) == [1]  # it does not even answer
    assert hung_ranks({0: waits, 1: waits}, 2) == [0, 1]
