"""What runs by night: the schedule brings runs into being, a worker runs them, and they read the sources again."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.checkout import ROOT
from tests.helpers.running import flow, locked, post, states, wait_for

PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


def run(folder: Path, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [*PREFECT, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def scheduled(server: dict[str, str], state: str) -> list[dict[str, Any]]:
    """The runs that the server's scheduler made, of a state."""
    body = {"flow_runs": {"state": {"type": {"any_": [state]}}}}
    found = post(server["PREFECT_API_URL"], "/flow_runs/filter", body)
    return [one for one in found if one["auto_scheduled"]]


def due(runs: list[dict[str, Any]]) -> bool:
    return any(datetime.fromisoformat(one["expected_start_time"]) < datetime.now(UTC) for one in runs)


def read_from_outside(project: Path) -> None:
    """`words` then yields what stands in a file that DVC knows nothing of, as a website would."""
    path = project / "tasks/words/stage.py"
    path.write_text(path.read_text().replace("content + params.text)", "open('outside.txt').read())"))
    (project / "outside.txt").write_text("w")


@pytest.mark.slow
def test_the_schedule_makes_runs_and_a_worker_runs_them(toy: Path, server: dict[str, str]) -> None:
    read_from_outside(toy)
    shutil.copy(ROOT / "prefect.yaml", toy)
    run(toy, "work-pool", "create", "textmill", "--type", "process", **server)
    run(toy, "deploy", "--all", **server)
    wait_for(lambda: scheduled(server, "SCHEDULED"), 180)
    for one in scheduled(server, "SCHEDULED"):
        assert datetime.fromisoformat(one["expected_start_time"]).astimezone(UTC).strftime("%H:%M") == "03:00"
        assert one["parameters"] == {"refresh": True}
    # Three o'clock is too far away to wait for: every minute as well.
    run(toy, "deployment", "schedule", "create", "textmill/nightly", "--interval", "60", **server)
    wait_for(lambda: due(scheduled(server, "SCHEDULED")), 240)
    run(toy.parent, "worker", "start", "--pool", "textmill", "--run-once", **server)
    wait_for(lambda: scheduled(server, "COMPLETED"))
    done = scheduled(server, "COMPLETED")
    assert "refresh" in done[0]["name"]
    assert (toy / "data/join/out.txt").read_text() == "wlwrj"


@pytest.mark.slow
def test_a_refresh_runs_what_a_change_calls_for_and_nothing_else(toy: Path, server: dict[str, str]) -> None:
    read_from_outside(toy)
    assert flow(toy, **server).returncode == 0
    before = locked(toy)
    assert flow(toy, "--refresh", **server).returncode == 0
    found = states(server)
    assert {stage: found[stage] for stage in ("words", "left", "right", "join")} == {
        "words": "Completed",
        "left": "Cached",
        "right": "Cached",
        "join": "Cached",
    }
    assert locked(toy) == before
    (toy / "outside.txt").write_text("news")
    done = flow(toy, "--refresh", **server)
    assert "4 of 4 stages ran" in done.stdout, done.stdout + done.stderr
    assert (toy / "data/join/out.txt").read_text() == "newslnewsrj"
