"""`make ui`: both pages answer, a taken port is avoided, a second start says where they are, Ctrl-C ends both."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.server import MLFLOW_PORT
from tasks.core.errors import EXIT_USER_ERROR
from tests.helpers.running import processes_of, runs, set_params, wait_for

UI = [sys.executable, "-m", "flows.ui"]
DVC = [sys.executable, "-m", "dvc"]


def _only_its_own_pages(server: str, path: str, body: dict[str, Any], key: tuple[str, str]) -> None:
    """A page of elsewhere that the user visits, or one whose name was turned to 127.0.0.1, reads and does nothing here."""
    port = server.rpartition(":")[2]
    own = {"Origin": server}
    assert httpx.post(server + path, json=body, headers=own, auth=key, timeout=30).is_success
    for foreign in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://evil.example:{port}"},
        {"Host": f"evil.example:{port}"},
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site"},
    ):
        as_form = {**own, **foreign, "Content-Type": "text/plain"}  # which a browser sends without asking first
        answer = httpx.post(server + path, content=json.dumps(body), headers=as_form, auth=key, timeout=30)
        assert answer.status_code == 403, (server, foreign)
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        preflight = httpx.options(server + path, headers={**own, **foreign, **asked}, timeout=30)
        assert "evil" not in preflight.headers.get("access-control-allow-origin", ""), (server, foreign)


@pytest.mark.slow
def test_both_pages_and_their_end(toy: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", MLFLOW_PORT))
            taken.listen()
        except OSError:
            pass  # by somebody else
        process = subprocess.Popen(UI, cwd=toy, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("Ctrl-C"):
                break
        urls = re.findall(r"^(?:Prefect|MLflow) +(\S+)$", said, re.M)
        assert len(urls) == 2, said
        assert f":{MLFLOW_PORT}/" not in urls[1]
        page, _, query = urls[1].partition("?")
        assert query == "workflowType=machine_learning&viewStateShareKey=textmill"
        server, _, experiment = page.partition("/#/experiments/")
        asked = {"experiment_id": experiment.removesuffix("/runs")}
        key_file = toy / ".textmill/auth"
        assert key_file.stat().st_mode & 0o777 == 0o600
        assert key_file.read_text() not in said
        user, _, secret = key_file.read_text().partition(":")
        assert secret not in str([p.cmdline() for p in processes_of(toy)])
        key = (user, secret)
        of_mlflow = f"{server}/api/2.0/mlflow/experiments/get"
        for wrong in (None, (user, "x"), ("x", secret), (user, secret + "x"), ("", "")):
            answer = httpx.get(of_mlflow, params=asked, auth=wrong, timeout=30)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
        found = httpx.get(of_mlflow, params=asked, auth=key, timeout=30).json()["experiment"]
        (view,) = (json.loads(t["value"]) for t in found["tags"] if t["key"] == "mlflow.sharedViewState.textmill")
        assert "metrics.`validation_bits_per_byte`" in json.loads(view["state"])["selectedColumns"]
        assert sum("mlflow" in " ".join(p.cmdline()) for p in processes_of(toy)) <= 2  # supervisor, server
        for url in urls:
            assert "<html" in httpx.get(url.partition("#")[0], auth=key, timeout=30, follow_redirects=True).text.lower()
        for url, path, body in (
            (urls[0], "/api/flows/", {"name": "x"}),
            (urls[1], "/api/2.0/mlflow/experiments/search", {"max_results": 1}),
        ):
            _only_its_own_pages(url.partition("#")[0].partition("?")[0].rstrip("/"), path, body, key)
        assert httpx.post(f"{urls[0]}/api/flows/", json={"name": "x"}, timeout=30).status_code == 401
        again = subprocess.run(UI, cwd=toy, capture_output=True, text=True, check=False)
        assert again.returncode == EXIT_USER_ERROR
        assert urls[0] in again.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    wait_for(lambda: not processes_of(toy))
    assert not (toy / ".textmill/ui.json").exists()


@pytest.mark.slow
def test_what_dvc_restored_without_a_stage_is_told(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import ui
    from tasks.core.tracking.store import Store

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{toy / '.textmill/mlflow.db'}")  # mlflow sets it for good
    set_params(toy, "words", text="w")
    subprocess.run([*DVC, "repro"], cwd=toy, check=True, capture_output=True)
    for folder in (".textmill", "data"):
        shutil.rmtree(toy / folder)
    ui._catch_up(toy, Store(toy))  # nothing to tell of yet: the outputs are not there
    assert runs(toy) == []
    subprocess.run([*DVC, "repro"], cwd=toy, check=True, capture_output=True)
    assert runs(toy) == []  # no stage ran, so nobody told
    for _ in range(2):
        ui._catch_up(toy, Store(toy))
    parents = [run for run in runs(toy) if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    assert parents[0].data.params["words.text"] == "w"
    assert parents[0].data.metrics["length"] == 5
    assert {run.info.status for run in runs(toy)} == {"FINISHED"}
