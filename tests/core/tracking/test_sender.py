"""The process that sends to MLflow: stages go on without it, what they said is sent by the next one, nothing stays RUNNING."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks.core.tracking.outbox import RunRecord, open_outbox
from tests.helpers.running import PATIENCE_S, processes_of, runs, set_params, stage, wait_for


def sender_of(project: Path) -> psutil.Process | None:
    """The process that sends, once it is known."""
    for file in project.glob(".textmill/outbox/*/sender.json"):
        return psutil.Process(int(json.loads(file.read_text())["process"].split(":")[1]))
    return None


@pytest.mark.slow
def test_a_sender_that_is_killed_is_followed_by_one_that_goes_on(toy: Path) -> None:
    """Killed while the stage runs, after it has made the run in MLflow: the stage has one run, and that is whole."""
    go = toy / "go"
    code = toy / "tasks/words/stage.py"
    wait = "while not __import__('pathlib').Path('go').exists(): time.sleep(0.05)"
    code.write_text(code.read_text().replace("time.sleep(params.sleep_s)", wait))
    process = subprocess.Popen([sys.executable, "-m", "tasks.words"], cwd=toy, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(toy.glob(".textmill/outbox/*/*.kept")))
    first = sender_of(toy)
    assert first is not None
    first.kill()
    go.touch()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "not tracked" in said) == (0, False), said
    (run,) = [run for run in runs(toy) if run.data.tags["textmill.kind"] == "stage"]
    assert (run.info.status, run.data.metrics["length"]) == ("FINISHED", 1)
    assert {run.info.status for run in runs(toy)} == {"FINISHED"}
    assert not processes_of(toy)  # nothing outlives a stage that runs by itself
    assert not list(toy.glob(".textmill/outbox/*"))


def test_a_sender_that_always_ends_is_given_up_and_told(toy: Path) -> None:
    (toy / "tasks/core/tracking/sender.py").write_text("raise SystemExit('no way')\n")
    done = stage(toy)
    assert done.returncode == 0
    assert (toy / "data/words/out.txt").exists()
    assert "words: not tracked in MLflow" in done.stderr
    assert "no way" in done.stderr


def test_a_stage_does_not_import_mlflow(toy: Path) -> None:
    """It takes seconds, and a process that has it must not fork."""
    code = toy / "tasks/words/stage.py"
    loaded = "print('imported:', 'mlflow' in __import__('sys').modules)"
    code.write_text(code.read_text().replace("time.sleep(params.sleep_s)", loaded))
    done = stage(toy)
    assert done.stdout == "imported: False\n"
    assert {run.info.status for run in runs(toy)} == {"FINISHED"}


@pytest.mark.slow
def test_a_run_whose_process_is_gone_is_ended_by_the_sender(toy: Path) -> None:
    set_params(toy, "words", sleep_s=3600)
    process = subprocess.Popen([sys.executable, "-m", "tasks.words"], cwd=toy, stderr=subprocess.DEVNULL)
    wait_for(lambda: list(toy.glob(".textmill/outbox/*/*.kept")))
    process.kill()
    process.wait()
    wait_for(lambda: not processes_of(toy))
    assert {run.info.status for run in runs(toy)} == {"KILLED"}
    assert not list(toy.glob(".textmill/outbox/*"))


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, None)
    for path in (*outbox.folder.iterdir(), outbox.folder):
        path.rmdir() if path.is_dir() else path.unlink()
    record = RunRecord(outbox, "stage", "words")
    record.append_call("finish", metrics={}, timings={})
    assert "No such file" in str(record.answer())
