"""`make ui`: the Prefect and MLflow pages of this checkout, on loopback, until Ctrl-C."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from flows import run_plan
from flows.mlflow_view import save_view, view_url
from flows.run_lock import stop_on_signal
from flows.server import (
    MLFLOW_PORT,
    PREFECT_PORT,
    auth_file,
    free_port,
    prefect_environment,
    running_ui,
    wait_until_healthy,
)
from flows.supervision.dvc_stage import TELEMETRY_OFF
from flows.supervision.supervise import GRACE_VARIABLE
from tasks.core.errors import EXIT_USER_ERROR, UserError, printable
from tasks.core.graph import load_graph
from tasks.core.paths import state_folder, write_json
from tasks.core.restore import recover
from tasks.core.tracking.lineage import log_unseen_state
from tasks.core.tracking.logged_models import link_models
from tasks.core.tracking.store import Store, open_store

POOL = "textmill"
MLFLOW_ALONE = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Without it MLflow starts eight workers of 190 MB each for jobs (evaluation of traces) that nobody here asks for."""


def _start(command: list[str], root: Path, environment: dict[str, str], log: Path) -> subprocess.Popen[str]:
    with log.open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.supervision.supervise", "--", sys.executable, "-m", *command],
            cwd=root,
            env=environment | {GRACE_VARIABLE: "3"},
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def serve(root: Path) -> None:
    """Serve both until a signal arrives.

    Raises:
        UserError: they run already, one of them does not start or ends, or MLFLOW_TRACKING_URI does not answer.
    """
    if ui := running_ui(root):
        raise UserError(f"already running: Prefect http://127.0.0.1:{ui['prefect']}, MLflow {_mlflow(ui['mlflow'])}")
    recover(root)
    state = state_folder(root)
    store = open_store(root)  # creates the database before the server opens it, and tells where it is
    store.end_orphaned_runs()
    save_view(store)
    link_models(store)
    _catch_up(root, store)
    stop = threading.Event()
    prefect_port, mlflow_port = free_port(PREFECT_PORT), free_port(MLFLOW_PORT)
    environment = prefect_environment(root, prefect_port)
    prefect_log, mlflow_log = state / "prefect-server.log", state / "mlflow-server.log"
    servers = [_start(["flows.guarded_server", "prefect", str(prefect_port)], root, environment, prefect_log)]
    remote = store.uri.startswith("http")
    if not remote:
        keeps = {
            "MLFLOW_BACKEND_STORE_URI": store.uri,
            "MLFLOW_ARTIFACTS_DESTINATION": str(state / "mlartifacts"),
        }
        command = ["flows.guarded_server", "mlflow", str(mlflow_port)]
        servers.append(_start(command, root, {**os.environ, **TELEMETRY_OFF, **MLFLOW_ALONE, **keeps}, mlflow_log))
    holder = state / "ui.json"
    try:
        with stop_on_signal(stop):
            wait_until_healthy(f"http://127.0.0.1:{prefect_port}/api/health", servers[0], "Prefect", prefect_log)
            if not remote:
                wait_until_healthy(f"http://127.0.0.1:{mlflow_port}/health", servers[1], "MLflow", mlflow_log)
            write_json(holder, {"prefect": prefect_port, "mlflow": 0 if remote else mlflow_port})
            _make_pool(root, environment)
            print(f"Prefect  http://127.0.0.1:{prefect_port}")
            print(printable(f"MLflow   {view_url(store.uri if remote else _mlflow(mlflow_port), store)}"))
            key = os.path.relpath(auth_file(root), root)
            print(
                f"A browser is asked once for what is in {key}: by Prefect for the whole line, by MLflow for the user textmill"
            )
            print("and what follows the colon. For deployments and workers, in another terminal:")
            print(f"  export PREFECT_API_URL=http://127.0.0.1:{prefect_port}/api")
            print(f"  export PREFECT_API_AUTH_STRING=$(cat {key})")
            print("Ctrl-C ends both.", flush=True)
            while not stop.wait(1.0):
                if any(server.poll() is not None for server in servers):
                    raise UserError(f"a server ended. Logs: {prefect_log}, {mlflow_log}")
    finally:
        holder.unlink(missing_ok=True)
        for server in servers:
            assert server.stdin is not None  # noqa: S101
            server.stdin.close()
        for server in servers:
            server.wait()


def _catch_up(root: Path, store: Store) -> None:
    """Tell MLflow of a pipeline that DVC restored from its run cache without starting a stage."""
    try:
        if not run_plan.outdated(root, list(load_graph(root))):
            log_unseen_state(store)
    except UserError as error:  # the pages are there for looking at what is wrong, too
        print(f"Not known whether the pipeline is up to date: {error}", file=sys.stderr)


def _mlflow(port: int) -> str:
    return f"http://127.0.0.1:{port}" if port else os.environ.get("MLFLOW_TRACKING_URI", "")


def _make_pool(root: Path, environment: dict[str, str]) -> None:
    """The work pool that prefect.yaml deploys to. That it is there already is no failure."""
    command = [sys.executable, "-m", "prefect", "work-pool", "create", POOL, "--type", "process"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and "already exists" not in done.stdout + done.stderr:
        raise UserError(f"the work pool {POOL} could not be made: {(done.stdout + done.stderr).strip()[-500:]}")


if __name__ == "__main__":
    try:
        serve(Path.cwd())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
