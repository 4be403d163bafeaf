"""Every end of a flow: one run a workspace, nothing left behind, and what was stopped is not called done."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from flows import run_plan
from flows.run_lock import hold_workspace
from flows.supervision import dvc_stage, supervised
from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from tests.helpers.checkout import ROOT
from tests.helpers.running import (
    FLOW,
    PATIENCE_S,
    flow,
    flow_run,
    post,
    processes_of,
    runs,
    set_params,
    state_of,
    states,
    wait_for,
)


@pytest.mark.slow
def test_a_stage_that_is_stopped_alone_stops_the_run(toy: Path, server: dict[str, str]) -> None:
    """SIGTERM to one stage: the run is not called complete, and what never ran is not called cached."""
    assert flow(toy, **server).returncode == 0
    set_params(toy, "left", sleep_s=3600)
    process = subprocess.Popen(FLOW, cwd=toy, env={**os.environ, **server}, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list((toy / "data").glob(".left.partial/half.txt")))
    next(p for p in processes_of(toy) if p.cmdline()[1:] == ["-m", "tasks.left"]).send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == EXIT_INTERRUPTED
    assert "Stopped: left. Nothing is lost" in said
    named = states(server)
    assert (named["flow"], named["left"]) == ("Cancelled", "Cancelled")
    # What never ran of a cancelled flow is NotReady until one of the server's services, twice a minute, cancels it.
    assert named["join"] in ("NotReady", "Cancelled")
    parent = next(run for run in reversed(runs(toy)) if "mlflow.parentRunId" not in run.data.tags)
    assert parent.info.status == "KILLED"
    assert "length" not in parent.data.metrics


@pytest.mark.slow
@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "SIGKILL", "cancel"])
def test_every_end_leaves_nothing_behind(
    toy: Path, server: dict[str, str], end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh" if end == "SIGINT" else "/bin/bash")  # DVC's: dash stays beside its command
    set_params(toy, "left", sleep_s=3600)
    process = subprocess.Popen(
        FLOW, cwd=toy, env={**os.environ, **server}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(lambda: list((toy / "data").glob(".left.partial/half.txt")) and (toy / "data/right").exists())
    name = json.loads((toy / ".textmill/run.json").read_text())["name"]
    second = flow(toy, **server)
    assert second.returncode == EXIT_USER_ERROR
    assert f"process {process.pid}" in second.stderr
    if end == "cancel":
        api = server["PREFECT_API_URL"]
        wish = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True}
        post(api, f"/flow_runs/{flow_run(server, name)['id']}/set_state", wish)
    else:
        process.send_signal(getattr(signal, end))
    process.communicate(timeout=PATIENCE_S)
    wait_for(lambda: not processes_of(toy))
    assert process.returncode == (-signal.SIGKILL if end == "SIGKILL" else EXIT_INTERRUPTED)
    assert "RUNNING" not in {run.info.status for run in runs(toy)}
    assert not (toy / "data/left").exists()
    assert (toy / "data/right/out.txt").read_text() == "wr"  # what was finished stays finished
    set_params(toy, "left")
    done = flow(toy, **server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (toy / "data/join/out.txt").read_text() == "wlwrj"
    assert "RUNNING" not in {run.info.status for run in runs(toy)}


def test_one_run_a_workspace(tmp_path: Path) -> None:
    with (
        hold_workspace(tmp_path, "first"),
        pytest.raises(UserError, match=f"'first' \\(process {os.getpid()}"),
        hold_workspace(tmp_path, "second"),
    ):
        pass
    with hold_workspace(tmp_path, "third"):
        pass
    assert not (tmp_path / ".textmill/run.json").exists()
    with FileLock(tmp_path / ".textmill/run.lock"), pytest.raises(UserError, match="just starting"):
        hold_workspace(tmp_path, "fourth").__enter__()


def test_a_supervised_tree_ends_with_its_parent(tmp_path: Path) -> None:
    """A grandchild in a session of its own, deaf to SIGTERM, is ended too."""
    script = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
        "'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(99)'],"
        f" start_new_session=True, cwd={str(tmp_path)!r}, stdout=open({str(tmp_path / 'ready')!r}, 'w')); time.sleep(99)"
    )
    environment = {**os.environ, "TEXTMILL_STOP_GRACE_S": "0.5", "PYTHONPATH": str(ROOT)}
    process = supervised.popen([sys.executable, "-c", script], tmp_path, environment)
    wait_for(lambda: (tmp_path / "ready").exists() and (tmp_path / "ready").read_text())
    assert len(processes_of(tmp_path)) == 3
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=PATIENCE_S)
    wait_for(lambda: not processes_of(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("left", ["", '{"read": {'])
def test_half_written_locks_of_dvc_are_mended(toy: Path, left: str) -> None:
    (toy / ".dvc/tmp").mkdir(exist_ok=True)
    (toy / ".dvc/tmp/rwlock").write_text(left)
    assert run_plan.outdated(toy, ["words"]) == {"words"}
    (toy / ".dvc/tmp/rwlock").write_text(left)
    assert dvc_stage.reproduce("words", toy, print, threading.Event()) == "Completed"


@pytest.mark.slow
def test_a_sweep_ends_the_dead_runs_of_its_own_workspace(tmp_path: Path, server: dict[str, str]) -> None:
    """One server, several checkouts: what another process runs, here or there, is left alone."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
    from prefect.states import Running

    from flows import orphans
    from flows.flow import pipeline
    from tasks.core.parallel.processes import process_identity

    dead = f"{socket.gethostname()}:{os.getpid()}:1"
    labels = {
        "dead": {orphans.WORKSPACE: str(tmp_path), orphans.OWNER: dead},
        "alive": {orphans.WORKSPACE: str(tmp_path), orphans.OWNER: process_identity()},
        "other checkout": {orphans.WORKSPACE: str(tmp_path / "other"), orphans.OWNER: dead},
        "other host": {orphans.WORKSPACE: str(tmp_path), orphans.OWNER: f"elsewhere:{os.getpid()}:1"},
        "unsigned": {},
    }
    given = {PREFECT_API_URL: server["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: server["PREFECT_API_AUTH_STRING"]}
    with temporary_settings(given), get_client(sync_client=True) as client:
        for name, of_run in labels.items():
            run = client.create_flow_run(pipeline, name=name, state=Running())
            client.update_flow_run_labels(run.id, of_run)
        orphans.end_orphans(tmp_path)
    assert {name: state_of(server, name) for name in labels} == dict.fromkeys(labels, "Running") | {"dead": "Crashed"}


@pytest.mark.slow
def test_a_stage_has_the_grace_of_its_meta(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_STOP_GRACE_S", "0.5")
    path = toy / "tasks/words/stage.py"
    saving = "try: time.sleep(99)\n    finally: time.sleep(3); open('saved', 'w').close()"
    path.write_text(path.read_text().replace("time.sleep(params.sleep_s)", saving))
    for grace_s in (None, 60):
        stop, half = threading.Event(), toy / "data/.words.partial/half.txt"
        half.unlink(missing_ok=True)
        threading.Thread(target=lambda half=half, stop=stop: (wait_for(half.exists), stop.set())).start()
        with pytest.raises(dvc_stage.StageStopped):
            dvc_stage.reproduce("words", toy, print, stop, grace_s=grace_s)
        assert (toy / "saved").exists() == (grace_s is not None)


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [("return {'length': 1}", 0), ("raise RuntimeError('real')", 1)])
def test_a_stage_that_talks_like_dvc_is_not_believed(toy: Path, end: str, code: int) -> None:
    said = ["Stage 'words' didn't change, skipping", "exited with 2", "09:00:00 Stage 'words' is cached - skipping run"]
    path = toy / "tasks/words/stage.py"
    lines = "; ".join(f"log({line!r})" for line in said[:2]) + f"; print({said[2]!r}); print('50%', end='', flush=True)"
    talk = f"import logging; log = logging.getLogger('textmill').info; {lines}\n    {end}"
    path.write_text(path.read_text().replace("time.sleep(params.sleep_s)", talk))
    if code == 0:
        assert dvc_stage.reproduce("words", toy, print, threading.Event()) == "Completed"
        return
    with pytest.raises(dvc_stage.StageFailed) as failed:
        dvc_stage.reproduce("words", toy, print, threading.Event())
    assert failed.value.code == code
