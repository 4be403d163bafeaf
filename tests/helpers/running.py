"""Starting the flow or a stage over a toy project, and looking at what became of it: processes, states, dvc.lock, MLflow."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from tasks.core.params import read_yaml

PATIENCE_S = 300.0
"""How long a test waits for what must happen: only a defect takes so long, on a machine as slow and busy as it may be."""
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


def wait_for(condition: Any, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


KEY = ("textmill", "a key for tests")
"""What the tests' Prefect server wants to hear."""


def post(api: str, path: str, body: dict[str, Any]) -> Any:
    """What Prefect's API answers; asked again while its database is busy."""
    import httpx

    deadline = time.monotonic() + PATIENCE_S
    while not (answer := httpx.post(f"{api}{path}", json=body, auth=KEY, timeout=60)).is_success:
        assert time.monotonic() < deadline, answer.text
        time.sleep(1)
    return answer.json()


def states(server: dict[str, str]) -> dict[str, Any]:
    """The latest flow run of the server and the states of its task runs."""
    api = server["PREFECT_API_URL"]
    started = {
        "flow_runs": {"start_time": {"is_null_": False}},
        "sort": "START_TIME_DESC",
        "limit": 1,
    }  # none that waits
    flow_run = post(api, "/flow_runs/filter", started)[0]
    body = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
    tasks = post(api, "/task_runs/filter", body)
    return {"id": flow_run["id"], "name": flow_run["name"], "flow": flow_run["state"]["name"]} | {
        task["name"]: task["state"]["name"] for task in tasks
    }


def flow_run(server: dict[str, str], name: str) -> dict[str, Any]:
    """The server's flow run of that name."""
    body = {"flow_runs": {"name": {"any_": [name]}}}
    found: dict[str, Any] = post(server["PREFECT_API_URL"], "/flow_runs/filter", body)[0]
    return found


def state_of(server: dict[str, str], name: str) -> str:
    """The name of that flow run's state."""
    return str(flow_run(server, name)["state"]["name"])


COMMAND = [sys.executable, "-m", "tasks.words"]


def stage(project: Path, name: str = "words", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"tasks.{name}"]
    return subprocess.run(
        command, cwd=project, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def set_params(project: Path, stage: str, **values: Any) -> None:
    lines = (project / "params.yaml").read_text().splitlines()
    keep = [line for line in lines if not line.startswith(f"{stage}:")]
    block = {"text": stage[0], "sleep_s": 0, "fail": False} | values
    (project / "params.yaml").write_text("\n".join([*keep, f"{stage}: {json.dumps(block)}"]) + "\n")


def runs(project: Path) -> list[Any]:
    """Runs in the project's own MLflow store, oldest first."""
    import mlflow

    database = project / ".textmill/mlflow.db"
    if not database.exists():  # whoever asks for it would make it
        return []
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("textmill")
    return list(reversed(client.search_runs([experiment.experiment_id]))) if experiment else []


def parents(project: Path) -> list[Any]:
    return [run for run in runs(project) if "mlflow.parentRunId" not in run.data.tags]


def client(project: Path) -> Any:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{project / '.textmill/mlflow.db'}")
