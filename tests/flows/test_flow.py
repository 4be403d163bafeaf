"""The flow: the same result as `dvc repro`, states by name, retries and timeouts."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows import run_plan
from tasks.core import graph
from tasks.core.errors import EXIT_USER_ERROR
from tests.helpers.running import flow, locked, runs, set_params, states
from tests.helpers.toy import EDGES


@pytest.mark.slow
def test_flow_and_repro_give_the_same(toy: Path, tmp_path: Path, server: dict[str, str]) -> None:
    from tests.helpers.toy import make

    done = flow(toy, **server)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stderr.splitlines()
    assert all(any(f"stage {n} of 4: {stage}" in line for line in said) for n, stage in enumerate(EDGES, 1))
    assert len(set(said)) == len(said)
    assert "{" not in done.stdout + done.stderr
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
    assert [run.data.metrics for run in parents] == [{"length": 5}] * 3
    assert {run.info.status for run in runs(toy)} == {"FINISHED"}


@pytest.mark.slow
def test_a_users_mistake_is_told_once_and_not_tried_again(toy: Path, server: dict[str, str]) -> None:
    declared = (toy / "dvc.yaml").read_text()
    (toy / "dvc.yaml").write_text(declared.replace("  left:\n", "  left:\n    meta: {retries: 2, retry_delay_s: 1}\n"))
    set_params(toy, "left", fail=True)
    done = flow(toy, **server)
    assert done.returncode == EXIT_USER_ERROR
    assert done.stderr.splitlines()[-1] == "records.jsonl: line 3: broken, mend it"
    assert "Retry" not in done.stderr
    named = states(server)
    assert named["flow"] == named["left"] == "BadInput"
    assert named["right"] == "Completed"  # independent of what failed
    assert {run.info.status for run in runs(toy)} == {"FINISHED", "FAILED"}
    bad = flow(toy, "--param", "left.fial=false", **server)
    assert bad.returncode == EXIT_USER_ERROR
    assert "Did you mean `fail`?" in bad.stderr
    assert flow(toy, "--param", "left.fail=false", **server).returncode == 0


@pytest.mark.slow
def test_retries_and_timeout_of_meta(toy: Path, server: dict[str, str]) -> None:
    declared = (toy / "dvc.yaml").read_text()
    (toy / "dvc.yaml").write_text(
        declared.replace("  left:\n", "  left:\n    meta: {retries: 1, retry_delay_s: 0.1}\n").replace(
            "  right:\n", "  right:\n    meta: {timeout_s: 5}\n"
        )
    )
    flaky = "import pathlib; flag = pathlib.Path('flag')\n    if not flag.exists(): flag.touch(); raise RuntimeError('weather')"
    path = toy / "tasks/left/stage.py"
    path.write_text(path.read_text().replace("time.sleep(params.sleep_s)", flaky))
    set_params(toy, "right", sleep_s=3600)
    done = flow(toy, **server)
    assert done.returncode == 1
    named = states(server)
    assert named["left"] == "Completed"
    assert named["right"] == "TimedOut"
    assert "timeout_s of its meta" in done.stderr


def test_outdated_follows_the_edges(toy: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "repro", "words"], cwd=toy, check=True, capture_output=True)
    assert run_plan.outdated(toy, ["words", "left", "right", "join"]) == {"left", "right", "join"}


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
    (toy / "dvc.yaml").write_text(declared.replace("      - tasks/words", "      - data/notes\n      - tasks/words"))
    graph.load_graph.cache_clear()
    nodes = graph.load_graph(toy)
    assert list(nodes) == ["words", "left", "right", "join"]
    assert nodes["words"].upstream == ()
    assert nodes["words"].inputs == {"notes": notes}
    assert run_plan.outdated(toy, list(nodes)) == set(nodes)
    dvc("repro")
    assert (toy / "data/words/out.txt").read_text() == "nw"
    assert run_plan.outdated(toy, list(nodes)) == set()
    (notes / "out.txt").write_text("m")
    dvc("add", "data/notes")
    assert flow(toy, **server).returncode == 0
    assert (toy / "data/words/out.txt").read_text() == "mw"
    assert {"data/notes", "tasks/words"} == set(graph.locked_hashes(toy, "words")[0])
    assert "Data and pipelines are up to date" in dvc("status")
