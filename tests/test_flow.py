"""The flow: the same result as `dvc repro`, states by name, one run a workspace, and nothing left behind by any end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from test_stage import runs, set_params

from flows import plan, stages
from flows.server import free_port, healthy
from flows.workspace import hold
from tasks.core import graph
from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from tasks.core.params import read_yaml

FLOW = [sys.executable, "-m", "flows.pipeline"]


def flow(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FLOW, *arguments], cwd=project, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def locked(project: Path) -> dict[str, Any]:
    """dvc.lock: what went in and came out of each stage, by content hash."""
    return read_yaml(project / "dvc.lock")


def processes_of(project: Path) -> list[psutil.Process]:
    """Processes whose working directory is the project: the flow, its server, supervisors, stages."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect server for the whole module: environment variables that point to it."""
    port, home = free_port(0), tmp_path_factory.mktemp("prefect")
    environment = {"PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    process = stages.supervised(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"],
        home,
        stages.stage_environment(environment | {"PYTHONPATH": str(Path(__file__).parent.parent)}),
    )
    threading.Thread(target=lambda: [None for _ in process.stdout or []], daemon=True).start()
    wait_for(lambda: healthy(f"http://127.0.0.1:{port}/api/health"))
    yield environment
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def states(server: dict[str, str]) -> dict[str, Any]:
    """The latest flow run of the server and the states of its task runs."""
    import httpx

    api = server["PREFECT_API_URL"]
    flow_run = httpx.post(f"{api}/flow_runs/filter", json={"sort": "EXPECTED_START_TIME_DESC", "limit": 1}).json()[0]
    body = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
    tasks = httpx.post(f"{api}/task_runs/filter", json=body).json()
    return {"id": flow_run["id"], "name": flow_run["name"], "flow": flow_run["state"]["name"]} | {
        task["name"]: task["state"]["name"] for task in tasks
    }


@pytest.mark.slow
def test_flow_and_repro_give_the_same(toy: Path, tmp_path: Path, server: dict[str, str]) -> None:
    from toy import make

    done = flow(toy, **server)
    assert done.returncode == 0, done.stdout + done.stderr
    other = make(tmp_path / "other")
    subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=other, check=True, capture_output=True)
    assert locked(toy) == locked(other)
    # An unchanged pipeline does not even ask Prefect.
    again = flow(toy, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert again.returncode == 0
    assert "Nothing changed" in again.stdout
    # What `dvc repro` made is up to date for the flow, and the other way round.
    shown = subprocess.run([sys.executable, "-m", "dvc", "status"], cwd=toy, capture_output=True, text=True, check=True)
    assert "up to date" in shown.stdout
    # One parameter: only what depends on it runs.
    set_params(toy, "left", text="L")
    assert flow(toy, **server).returncode == 0
    named = states(server)
    assert {k: named[k] for k in ("words", "left", "right", "join")} == {
        "words": "Cached",
        "left": "Completed",
        "right": "Cached",
        "join": "Completed",
    }
    set_params(toy, "left")
    assert flow(toy, **server).returncode == 0
    assert states(server)["left"] == "Restored"
    parents = [run for run in runs(toy) if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 3
    assert all({"words/length", "join/length"} <= set(run.data.metrics) for run in parents)
    assert {run.info.status for run in runs(toy)} == {"FINISHED"}


@pytest.mark.slow
def test_a_failed_stage_fails_the_flow_and_says_why(toy: Path, server: dict[str, str]) -> None:
    set_params(toy, "left", fail=True)
    done = flow(toy, **server)
    assert done.returncode == 1
    assert "records.jsonl: line 3: broken, mend it" in done.stderr
    named = states(server)
    assert named["flow"] == named["left"] == "Failed"
    assert named["right"] == "Completed"  # independent of what failed
    assert {run.info.status for run in runs(toy)} == {"FINISHED", "FAILED"}
    bad = flow(toy, "--param", "left.fial=false", **server)
    assert bad.returncode == EXIT_USER_ERROR
    assert "Did you mean `fail`?" in bad.stderr
    assert flow(toy, "--param", "left.fail=false", **server).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "SIGKILL", "cancel"])
def test_every_end_leaves_nothing_behind(
    toy: Path, server: dict[str, str], end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh" if end == "SIGINT" else "/bin/bash")  # DVC's: dash stays beside its command
    set_params(toy, "left", sleep_s=120)
    process = subprocess.Popen(
        FLOW, cwd=toy, env={**os.environ, **server}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(lambda: list((toy / "data").glob(".left.partial/half.txt")) and (toy / "data/right").exists(), 90)
    second = flow(toy, **server)
    assert second.returncode == EXIT_USER_ERROR
    assert f"process {process.pid}" in second.stderr
    if end == "cancel":
        import httpx

        name = json.loads((toy / ".textmill/run.json").read_text())["name"]
        api = server["PREFECT_API_URL"]
        found = httpx.post(f"{api}/flow_runs/filter", json={"flow_runs": {"name": {"any_": [name]}}}).json()
        wish = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True}
        httpx.post(f"{api}/flow_runs/{found[0]['id']}/set_state", json=wish)
    else:
        process.send_signal(getattr(signal, end))
    process.communicate(timeout=90)
    wait_for(lambda: not processes_of(toy), 30)
    assert process.returncode == (-signal.SIGKILL if end == "SIGKILL" else EXIT_INTERRUPTED)
    assert not (toy / "data/left").exists()
    assert (toy / "data/right/out.txt").read_text() == "wr"  # what was finished stays finished
    set_params(toy, "left")
    done = flow(toy, **server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (toy / "data/join/out.txt").read_text() == "wlwrj"
    assert "RUNNING" not in {run.info.status for run in runs(toy)}


@pytest.mark.slow
def test_retries_and_timeout_of_meta(toy: Path, server: dict[str, str]) -> None:
    declared = (toy / "dvc.yaml").read_text()
    (toy / "dvc.yaml").write_text(
        declared.replace("  left:\n", "  left:\n    meta: {retries: 1, retry_delay_s: 0.1}\n").replace(
            "  right:\n", "  right:\n    meta: {timeout_s: 5}\n"
        )
    )
    flaky = "import pathlib; flag = pathlib.Path('flag')\n    if not flag.exists(): flag.touch(); raise RuntimeError('weather')"
    path = toy / "tasks/left.py"
    path.write_text(path.read_text().replace("time.sleep(params.sleep_s)", flaky))
    set_params(toy, "right", sleep_s=60)
    done = flow(toy, **server)
    assert done.returncode == 1
    named = states(server)
    assert named["left"] == "Completed"
    assert named["right"] == "TimedOut"
    assert "timeout_s of its meta" in done.stderr


def test_one_run_a_workspace(tmp_path: Path) -> None:
    with (
        hold(tmp_path, "first"),
        pytest.raises(UserError, match=f"'first' \\(process {os.getpid()}"),
        hold(tmp_path, "second"),
    ):
        pass
    with hold(tmp_path, "third"):
        pass
    assert not (tmp_path / ".textmill/run.json").exists()
    with FileLock(tmp_path / ".textmill/run.lock"), pytest.raises(UserError, match="just starting"):
        hold(tmp_path, "fourth").__enter__()


def test_a_supervised_tree_ends_with_its_parent(tmp_path: Path) -> None:
    """A grandchild in a session of its own, deaf to SIGTERM, is ended too."""
    script = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
        "'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(99)'],"
        f" start_new_session=True, cwd={str(tmp_path)!r}, stdout=open({str(tmp_path / 'ready')!r}, 'w')); time.sleep(99)"
    )
    environment = {**os.environ, "TEXTMILL_STOP_GRACE_S": "0.5", "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = stages.supervised([sys.executable, "-c", script], tmp_path, environment)
    wait_for(lambda: (tmp_path / "ready").exists() and (tmp_path / "ready").read_text())
    assert len(processes_of(tmp_path)) == 3
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=20)
    wait_for(lambda: not processes_of(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("left", ["", '{"read": {'])
def test_half_written_locks_of_dvc_are_mended(toy: Path, left: str) -> None:
    (toy / ".dvc/tmp").mkdir(exist_ok=True)
    (toy / ".dvc/tmp/rwlock").write_text(left)
    assert plan.outdated(toy, ["words"]) == {"words"}
    (toy / ".dvc/tmp/rwlock").write_text(left)
    assert stages.reproduce("words", toy, print, threading.Event()) == "Completed"


def test_outdated_follows_the_edges(toy: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "repro", "words"], cwd=toy, check=True, capture_output=True)
    assert plan.outdated(toy, ["words", "left", "right", "join"]) == {"left", "right", "join"}


@pytest.mark.slow
def test_files_that_dvc_tracks_are_inputs_and_no_stages(toy: Path, server: dict[str, str]) -> None:
    """The README's way to a versioned input: `dvc add data/notes`, and `- data/notes` among the deps."""

    def dvc(*arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(command, cwd=toy, check=True, capture_output=True, text=True).stdout

    notes = toy / "data/notes"
    notes.mkdir(parents=True)
    (notes / "out.txt").write_text("n")
    dvc("add", "data/notes")
    declared = (toy / "dvc.yaml").read_text()
    (toy / "dvc.yaml").write_text(
        declared.replace("      - tasks/words.py", "      - data/notes\n      - tasks/words.py")
    )
    graph.load_graph.cache_clear()
    nodes = graph.load_graph(toy)
    assert list(nodes) == ["words", "left", "right", "join"]
    assert nodes["words"].upstream == ()
    assert nodes["words"].inputs == {"notes": notes}
    assert plan.outdated(toy, list(nodes)) == set(nodes)
    dvc("repro")
    assert (toy / "data/words/out.txt").read_text() == "nw"
    assert plan.outdated(toy, list(nodes)) == set()
    (notes / "out.txt").write_text("m")
    dvc("add", "data/notes")
    assert flow(toy, **server).returncode == 0
    assert (toy / "data/words/out.txt").read_text() == "mw"
    assert {"data/notes", "tasks/words.py"} == set(graph.locked_hashes(toy, "words")[0])
    assert "Data and pipelines are up to date" in dvc("status")
