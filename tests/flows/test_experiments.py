"""Ways to run the pipeline beside the flow's command: DVC's experiments, its queue, and a scheduled deployment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.checkout import ROOT
from tests.helpers.running import flow_run, runs, wait_for

DVC = [sys.executable, "-m", "dvc"]
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


def parents(project: Path) -> dict[str, Any]:
    """Pipeline runs in the project's MLflow store: the value of words.text → run."""
    return {run.data.params["words.text"]: run for run in runs(project) if "mlflow.parentRunId" not in run.data.tags}


def run(project: Path, *command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=project, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_deployment_is_the_flow() -> None:
    assert "flows/flow.py:pipeline" in (ROOT / "prefect.yaml").read_text()


@pytest.mark.slow
def test_experiments_here_and_queued_can_be_compared(toy: Path) -> None:
    run(toy, *DVC, "exp", "run", "-n", "here", "-S", "words.text=A")
    run(toy, *DVC, "exp", "run", "-n", "queued", "--queue", "-S", "words.text=BB")
    run(toy, *DVC, "queue", "start")
    wait_for(lambda: "Success" in run(toy, *DVC, "queue", "status"))
    wait_for(lambda: "0 active" in run(toy, *DVC, "queue", "status"))
    found = parents(toy)
    assert {text: parent.data.tags["dvc.experiment"] for text, parent in found.items()} == {"A": "here", "BB": "queued"}
    assert {text: parent.data.metrics["length"] for text, parent in found.items()} == {"A": 5, "BB": 7}
    assert {parent.info.status for parent in found.values()} == {"FINISHED"}


@pytest.mark.slow
def test_a_worker_runs_the_deployment(toy: Path, server: dict[str, str]) -> None:
    shutil.copy(ROOT / "prefect.yaml", toy)
    run(toy, *PREFECT, "work-pool", "create", "textmill", "--type", "process", **server)
    run(toy, *PREFECT, "deploy", "--all", **server)
    started = run(toy, *PREFECT, "deployment", "run", "textmill/nightly", **server)
    worker = [*PREFECT, "worker", "start", "--pool", "textmill", "--run-once"]
    said = run(toy.parent, *worker, **server)  # from any folder: the deployment knows its own
    assert (toy / "data/join/out.txt").read_text() == "wlwrj", started + said
    (parent,) = parents(toy).values()
    assert parent.info.status == "FINISHED"
    assert flow_run(server, parent.info.run_name)["state"]["name"] == "Completed"
