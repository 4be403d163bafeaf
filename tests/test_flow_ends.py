"""Every end of a flow: one run a workspace, nothing left behind, and what was stopped is not called done."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from running import FLOW, flow, processes_of, states, wait_for
from test_stage import runs, set_params

from flows import plan, stages
from flows.workspace import hold
from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError


@pytest.mark.slow
def test_a_stage_that_is_stopped_alone_stops_the_run(toy: Path, server: dict[str, str]) -> None:
    """SIGTERM to one stage: the run is not called complete, and what never ran is not called cached."""
    assert flow(toy, **server).returncode == 0
    set_params(toy, "left", sleep_s=120)
    process = subprocess.Popen(FLOW, cwd=toy, env={**os.environ, **server}, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list((toy / "data").glob(".left.partial/half.txt")))
    next(p for p in processes_of(toy) if p.cmdline()[1:] == ["-m", "tasks.left"]).send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED
    assert "Stopped: left. Nothing is lost" in said
    named = states(server)
    assert (named["flow"], named["left"], named["join"]) == ("Cancelled", "Cancelled", "NotReady")
    parent = next(run for run in reversed(runs(toy)) if "mlflow.parentRunId" not in run.data.tags)
    assert parent.info.status == "KILLED"
    assert not parent.data.metrics.keys() & {"left/length", "join/length"}


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
