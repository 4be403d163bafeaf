"""The command line of the flow: what it selects, and mistakes told in a sentence before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.errors import EXIT_USER_ERROR
from tasks.core.params import read_yaml
from tests.helpers.running import flow, states

NOWHERE = "http://127.0.0.1:9"


def mistake(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said that ended with a user's mistake."""
    assert done.returncode == EXIT_USER_ERROR, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_help_names_every_option(toy: Path) -> None:
    done = flow(toy, "--help")
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--stages", "--from-stage", "--force", "--param"))


def test_a_missing_package_is_named(toy: Path) -> None:
    path = toy / "tasks/left/stage.py"
    path.write_text("import not_installed_anywhere\n" + path.read_text())
    said = mistake(flow(toy))
    assert "not_installed_anywhere" in said
    assert "make install" in said


def test_a_stage_without_a_block_is_told_before_anything_runs(toy: Path) -> None:
    path = toy / "params.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("left")))
    assert "params.yaml: left: no such block. Write one; for the defaults: left: {}" in mistake(flow(toy))
    assert not (toy / "data/words").exists()


def test_a_prefect_server_that_does_not_answer_is_told(toy: Path) -> None:
    assert f"PREFECT_API_URL={NOWHERE}/api" in mistake(flow(toy, PREFECT_API_URL=f"{NOWHERE}/api"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["flows.ui", "tasks.core.tracking.store"])
def test_a_tracking_server_that_does_not_answer_is_told(toy: Path, command: str) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": NOWHERE}
    done = subprocess.run(
        [sys.executable, "-m", command], cwd=toy, env=environment, capture_output=True, text=True, check=False
    )
    assert f"MLFLOW_TRACKING_URI={NOWHERE}" in mistake(done)


@pytest.mark.parametrize("wrong", ["left.fial=true", "left.text=7", "lefty.text=x", "left=1", "left.text.more=1", "x"])
def test_a_mistaken_param_is_told_before_a_server_starts(toy: Path, wrong: str) -> None:
    before = (toy / "params.yaml").read_text()
    assert "param" in mistake(flow(toy, "--param", wrong))
    assert not (toy / ".textmill/prefect-server.log").exists()
    assert (toy / "params.yaml").read_text() == before
    assert not list(toy.glob(".params*"))


@pytest.mark.slow
def test_selection_force_and_param(toy: Path, server: dict[str, str]) -> None:
    params = toy / "params.yaml"
    params.write_text("# what is joined\n" + params.read_text().replace("left:", "left: # the left side\n "))
    assert flow(toy, "--stages", "left", **server).returncode == 0
    assert {k: v for k, v in states(server).items() if k in read_yaml(params)} == dict.fromkeys(
        ("words", "left"), "Completed"
    )
    done = flow(toy, "--from-stage", "left", "--param", "left.text=L", **server)
    assert done.returncode == 1  # `right` is not selected, and `join` reads it
    assert "data/right" in done.stderr
    text = params.read_text()
    assert "# what is joined" in text
    assert "# the left side" in text
    assert read_yaml(params)["left"] == {"text": "L", "sleep_s": 0, "fail": False}
    assert flow(toy, **server).returncode == 0
    assert (toy / "data/join/out.txt").read_text() == "wLwrj"
    assert flow(toy, "--from-stage", "right", "--force", **server).returncode == 0
    named = states(server)
    assert {k: v for k, v in named.items() if k in read_yaml(params)} == dict.fromkeys(("right", "join"), "Completed")
    assert "from right" in named["name"]
    assert "no stage named" in mistake(flow(toy, "--stages", "nowhere", **server))


@pytest.mark.slow
def test_what_is_up_to_date_starts_nothing(toy: Path) -> None:
    """Not after `dvc repro`, nor a change of execution.yaml, nor a cache wiped and pulled again: no server, no Prefect."""
    dvc = [sys.executable, "-m", "dvc"]

    def run(*arguments: str) -> None:
        subprocess.run([*dvc, *arguments], cwd=toy, check=True, capture_output=True)

    (toy / "execution.yaml").write_text("workers: 1\n")
    run("repro")
    run("remote", "add", "-d", "store", str(toy.parent / "remote"))
    run("push")
    subprocess.run(["rm", "-rf", str(toy / ".dvc/cache"), str(toy / "data")], check=True)
    run("pull")
    (toy / "execution.yaml").write_text("workers: 2\nthreads: 1\n")
    imported = "import sys, runpy\nsys.argv[1:] = []\ntry: runpy.run_module('flows.pipeline', run_name='__main__')\n"
    imported += "finally: print('prefect' in sys.modules, 'mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", imported], cwd=toy, capture_output=True, text=True, check=True)
    assert "Nothing changed" in done.stdout
    assert done.stdout.endswith("False False\n")
    assert not (toy / ".textmill/prefect-server.log").exists()
