"""The Prefect server that a flow run reports to: the one that is running, or one of its own for as long as it runs."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.supervision.dvc_stage import TELEMETRY_OFF
from flows.supervision.supervise import GRACE_VARIABLE
from tasks.core.errors import UserError
from tasks.core.paths import state_folder
from tasks.core.tracking.moved_checkout import rewrite_moved_paths

PREFECT_PORT, MLFLOW_PORT = 4200, 5000
START_TIMEOUT_S = 120.0
CLIENT = ("PREFECT_HOME", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING", *TELEMETRY_OFF)
"""What of a server's environment its clients need."""


def prefect_environment(root: Path, port: int) -> dict[str, str]:
    """Environment of a Prefect server that keeps its history in this checkout and listens on `port` of loopback."""
    api = f"http://127.0.0.1:{port}/api"
    rewrite_moved_paths(state_folder(root))
    key = auth_string(root)
    return {
        **os.environ,
        **TELEMETRY_OFF,
        "PREFECT_HOME": os.environ.get("PREFECT_HOME", str(state_folder(root) / "prefect")),
        "PREFECT_SERVER_UI_API_URL": api,  # else the UI asks port 4200, wherever it is served
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_API_AUTH_STRING": key,  # other users of this machine reach its loopback as well
        "PREFECT_API_AUTH_STRING": key,
        # Its default is any: a page that a user visits could make a deployment, whose command a worker then runs.
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    }


def auth_string(root: Path) -> str:
    """What the servers of this checkout want to hear from their clients: made once, in a file for its owner alone."""
    path = auth_file(root)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(f"textmill:{secrets.token_urlsafe(24)}")
        with suppress(FileExistsError):  # another process was first, and its server may have read it
            os.link(beside, path)
        beside.unlink()
    return path.read_text(encoding="ascii").strip()


def auth_file(root: Path) -> Path:
    """Where `auth_string` is kept."""
    return state_folder(root) / "auth"


def free_port(wanted: int) -> int:
    """`wanted` on loopback if nothing listens there, else a free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UserError("no free port on 127.0.0.1")


def healthy(url: str) -> bool:
    """Whether a GET of `url` on this machine is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - built from a number below
            return bool(answer.status == 200)
    except OSError:
        return False


def answers(url: str) -> bool:
    """Whether a server answers at `url`, be it that it wants a key first."""
    try:
        with urllib.request.urlopen(url, timeout=10):  # noqa: S310 - the user's own setting
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError):
        return False


def wait_until_healthy(url: str, process: subprocess.Popen[str], what: str, log: Path) -> None:
    """Wait for a server to answer.

    Raises:
        UserError: it ended, or did not answer within two minutes; names its log.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while not healthy(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"{what} did not start. Its log: {log}")
        time.sleep(0.1)


def running_ui(root: Path) -> dict[str, int] | None:
    """Ports of the `make ui` of this checkout, if it runs."""
    try:
        ports: dict[str, int] = json.loads((state_folder(root) / "ui.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return ports if healthy(f"http://127.0.0.1:{ports['prefect']}/api/health") else None


@contextmanager
def prefect_api(root: Path, meanwhile: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Environment variables for Prefect's client, set while inside; yields the URL of the server's UI.

    PREFECT_API_URL decides if it is set; else a running `make ui`; else a server is started and ended again.
    A server of the flow's own is supervised: it ends with this process, even by SIGKILL. `meanwhile` is called while it
    starts, with those variables set: importing Prefect's client takes as long.

    Raises:
        UserError: nothing answers at PREFECT_API_URL, or a server of the flow's own does not start.
    """
    if given := os.environ.get("PREFECT_API_URL"):
        if not answers(f"{given.rstrip('/')}/health"):
            raise UserError(
                f"no Prefect server answers at PREFECT_API_URL={given}. Start it (make ui says its address), or unset "
                "PREFECT_API_URL: the flow then starts a server of its own"
            )
        yield given.removesuffix("/api")
        return
    ui = running_ui(root)
    port = ui["prefect"] if ui else free_port(PREFECT_PORT)
    environment = prefect_environment(root, port)
    os.environ.update({key: environment[key] for key in CLIENT})
    if ui:
        yield f"http://127.0.0.1:{port}"
        return
    log = state_folder(root) / "prefect-server.log"
    server = [sys.executable, "-m", "flows.guarded_server", "prefect", str(port)]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.supervision.supervise", "--", *server],
            cwd=root,
            env=environment | {GRACE_VARIABLE: "3"},
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        meanwhile()
        wait_until_healthy(f"http://127.0.0.1:{port}/api/health", process, "the Prefect server", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        assert process.stdin is not None  # noqa: S101
        process.stdin.close()
        process.wait()
