"""map_shards: order, equality over worker counts, and workers that fail or are killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.core.errors import UserError
from tasks.core.parallel.engine import kept_workers, map_shards
from tests.helpers.checkout import ROOT
from tests.helpers.running import PATIENCE_S, wait_for


def square(n: int) -> int:
    return n * n


def fail_on_three(n: int) -> int:
    if n == 3:
        raise UserError("shard 3: broken")
    return n


def die_on_two(n: int) -> int:
    if n == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    assert list(map_shards(square, range(7), "squares", workers)) == [n * n for n in range(7)]
    assert list(map_shards(square, [], "squares", workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_names_its_shard(workers: int) -> None:
    with pytest.raises(UserError, match="shard 3"):
        list(map_shards(fail_on_three, range(6), "numbers", workers))


def die_once(path: Path) -> str:
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def process_of(_: int) -> int:
    time.sleep(0.3)
    return os.getpid()


def test_a_shard_that_kills_its_worker_twice_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    done = map_shards(partial(mark_or_die, folder=tmp_path), range(6), "numbers", 2)
    with pytest.raises(UserError, match="the worker of 2 was killed, twice"):
        list(done)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "3", "4", "5"}


def mark_or_die(n: int, folder: Path) -> int:
    (folder / str(die_on_two(n))).touch()
    return n


def test_a_lost_worker_s_shard_is_tried_again(tmp_path: Path) -> None:
    paths = [tmp_path / str(n) for n in range(5)]
    for path in paths[1:]:
        path.touch()
    assert list(map_shards(die_once, paths, "numbers", 2)) == ["0", "1", "2", "3", "4"]


def note_and_maybe_die(n: int, folder: Path) -> int:
    """Shard 15 kills, and shard 0 is at work until then; each try leaves a file."""
    (folder / f"{n}-{time.monotonic_ns()}").touch()
    if n == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    while n == 0 and not any(folder.glob("15-*")):
        time.sleep(0.01)
    return n


def test_a_killer_gets_two_tries_and_finished_shards_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the worker of 15 was killed, twice"):
        list(map_shards(partial(note_and_maybe_die, folder=tmp_path), range(20), "numbers", 2))
    tries = Counter(int(path.name.partition("-")[0]) for path in tmp_path.iterdir())
    assert tries[15] == 2
    assert all(tries[n] == 1 for n in range(1, 15))
    assert all(tries[n] >= 1 for n in range(20))


def test_an_idle_worker_may_be_lost() -> None:
    with kept_workers():
        for pid in set(map_shards(process_of, range(4), "processes", 2)):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        assert list(map_shards(square, range(7), "squares", 2)) == [n * n for n in range(7)]


def test_kept_workers_serve_again() -> None:
    with kept_workers():
        first, again = (set(map_shards(process_of, range(4), "processes", 2)) for _ in range(2))
        assert first == again
        with pytest.raises(UserError, match="shard 3"):
            list(map_shards(fail_on_three, range(6), "numbers", 2))
        with pytest.raises(UserError, match="the worker of 2 was killed, twice"):
            list(map_shards(die_on_two, range(5), "numbers", 2))
        last = {psutil.Process(pid) for pid in map_shards(process_of, range(4), "processes", 2)}
        assert len(last) == 2
        assert not {process.pid for process in last} & first
    assert not psutil.wait_procs(last, timeout=PATIENCE_S)[1]


def test_shards_that_are_handed_over_together_stand_for_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, tried again without their neighbours, and named alone."""
    monkeypatch.setattr("tasks.core.parallel.engine.MIN_GROUPS_A_WORKER", 2)
    assert list(map_shards(square, range(23), "squares", 2)) == [n * n for n in range(23)]
    paths = [tmp_path / f"{n:02d}" for n in range(23)]
    for path in paths[:7] + paths[8:]:
        path.touch()
    assert list(map_shards(die_once, paths, "numbers", 2)) == [path.name for path in paths]
    with pytest.raises(UserError, match="shard 3"):
        list(map_shards(fail_on_three, range(23), "numbers", 2))
    folder = tmp_path / "marks"
    folder.mkdir()
    with pytest.raises(UserError, match="the worker of 2 was killed, twice"):
        list(map_shards(partial(mark_or_die, folder=folder), range(23), "numbers", 2))
    assert {path.name for path in folder.iterdir()} == {str(n) for n in range(23)} - {"2"}


def environment_of(_: int) -> tuple[str | None, int]:
    return os.environ.get("ONLY_HERE"), len(set(os.environ) - {"PYTHONPATH"})


def test_workers_have_the_environment_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though what they are forked from was started with an older one."""
    list(map_shards(square, range(2), "squares", 2))
    for value in ("one", "two"):
        monkeypatch.setenv("ONLY_HERE", value)
        assert set(map_shards(environment_of, range(4), "processes", 2)) == {environment_of(0)}
    monkeypatch.delenv("ONLY_HERE")
    assert set(map_shards(environment_of, range(4), "processes", 2)) == {environment_of(0)}


SLEEPERS = """
import sys, time
from tasks.core.parallel.engine import kept_workers, map_shards
from tasks.core.parallel.worker_pool import preload_workers
if __name__ == "__main__":
    preload_workers("json")
    with kept_workers():
        list(map_shards(abs, [1, 2, 3], "numbers", 2))
        print("ready", flush=True)
        list(map_shards(time.sleep, [600, 600], "sleepers", 2))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_process_that_started_it(tmp_path: Path, number: signal.Signals) -> None:
    """Neither the workers nor what they are forked from, though it is this that they are children of."""
    (tmp_path / "execution.yaml").write_text("workers: 2\n")
    (tmp_path / "sleepers.py").write_text(SLEEPERS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "sleepers.py")]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as main:
        assert main.stdout is not None
        assert main.stdout.readline() == b"ready\n"
        wait_for(lambda: len(psutil.Process(main.pid).children(recursive=True)) >= 3)
        below = psutil.Process(main.pid).children(recursive=True)
        main.send_signal(number)
    assert not psutil.wait_procs(below, timeout=PATIENCE_S)[1]


def parent_of(_: int) -> int:
    time.sleep(0.05)
    return os.getppid()


def test_what_workers_are_forked_from_may_be_lost() -> None:
    with kept_workers():
        [server] = set(map_shards(parent_of, range(4), "parents", 2))
        os.kill(server, signal.SIGKILL)
        while psutil.Process(server).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert list(map_shards(square, range(7), "squares", 2)) == [n * n for n in range(7)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


@pytest.fixture
def cluster(nodes: Any) -> str:
    """Its address."""
    return str(nodes.address)


@pytest.fixture
def on_ray(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose execution.yaml names the cluster; the functions of this file are importable there."""
    (tmp_path / "execution.yaml").write_text(f"engine: ray\ncluster: {cluster}\n")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_ray_gives_what_local_processes_give(on_ray: Path) -> None:
    assert list(map_shards(square, range(7), "squares")) == [n * n for n in range(7)]
    assert len(set(map_shards(process_of, range(6), "processes"))) == 2  # a worker on each node
    with pytest.raises(UserError, match="shard 3"):
        list(map_shards(fail_on_three, range(6), "numbers"))
    paths = [on_ray / str(n) for n in range(5)]
    for path in paths[1:]:
        path.touch()
    assert list(map_shards(die_once, paths, "numbers")) == ["0", "1", "2", "3", "4"]
    with pytest.raises(UserError, match="the worker of 2 was killed, twice"):
        list(map_shards(die_on_two, range(5), "numbers"))


def large_result(n: int, folder: Path) -> bytes:
    """200 kB, which Ray leaves on the node that made them; which node that is, and how often, stands in `folder`."""
    if folder.name == "ray":
        import ray

        with (folder / str(n)).open("a") as file:
            file.write(ray.get_runtime_context().get_node_id() + "\n")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:  # else a node that is slow to begin finds nothing left
            if len({node for path in folder.iterdir() for node in path.read_text().split()}) > 1:
                break
            time.sleep(0.05)
        time.sleep(0.5)
    return random.Random(n).randbytes(200_000)


@pytest.mark.slow
def test_a_lost_node_s_shards_are_made_again(on_ray: Path, nodes: Any) -> None:
    """Both the one under way there and those whose results nobody has fetched yet."""
    folder = on_ray / "ray"
    folder.mkdir()
    [node] = nodes.worker_nodes
    made_there = lambda: [p for p in folder.iterdir() if node.node_id in p.read_text()]  # noqa: E731
    results = map_shards(partial(large_result, folder=folder), range(12), "numbers", 8)
    found = [next(results)]
    deadline = time.monotonic() + PATIENCE_S
    while len(made_there()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    before = {path.name for path in made_there()}
    assert len(before) == 3
    try:
        nodes.remove_node(node, allow_graceful=False)
        found += results
    finally:
        nodes.add_node(num_cpus=1)
    assert found == [large_result(n, on_ray) for n in range(12)]
    runs = {path.name: path.read_text().split() for path in folder.iterdir()}
    again = {name for name, hosts in runs.items() if len(hosts) > 1}
    assert again
    assert again <= before, "only what was lost is made again"
    assert all(len(hosts) <= 2 and hosts[-1] != node.node_id for name, hosts in runs.items() if name in again)


def killed_once(n: int, folder: Path) -> bytes:
    if not (folder / f"{n} killed").exists():
        (folder / f"{n} killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return large_result(n, folder)


@pytest.mark.slow
def test_a_shard_that_loses_its_worker_and_then_its_result_s_node_is_made_again(on_ray: Path, nodes: Any) -> None:
    folder = on_ray / "ray"
    folder.mkdir()
    [node] = nodes.worker_nodes
    results = map_shards(partial(killed_once, folder=folder), range(6), "numbers", 6)
    found = [next(results)]
    deadline = time.monotonic() + PATIENCE_S
    while len([*folder.iterdir()]) < 12 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    assert any(node.node_id in path.read_text() for path in folder.iterdir())
    try:
        nodes.remove_node(node, allow_graceful=False)
        found += results
    finally:
        nodes.add_node(num_cpus=1)
    assert found == [large_result(n, on_ray) for n in range(6)]


@pytest.mark.slow
def test_stages_on_ray_write_the_same_bytes(cluster: str, tmp_path: Path) -> None:
    """The data stages, run as DVC runs them, where what is pickled belongs to `__main__`."""
    from tests.helpers.small_project import small_project

    outputs = []
    for engine in ("local", "ray"):
        project = small_project(tmp_path / engine)
        (project / "execution.yaml").write_text(f"engine: {engine}\ncluster: {cluster}\nworkers: 2\n")
        run = [sys.executable, "-m", "dvc", "repro", "pack"]
        done = subprocess.run(run, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        outputs.append((project / "dvc.lock").read_text())
    assert outputs[0] == outputs[1]


def test_no_cluster_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    (tmp_path / "execution.yaml").write_text("engine: ray\ncluster: 127.0.0.1:9\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no Ray cluster at '127.0.0.1:9'"):
        list(map_shards(square, range(3), "squares"))
