"""The contract of a stage: whole output or none, a message and an exit code, every run tracked under plain `dvc repro`."""

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors import SafetensorError

from tasks.core.disk_full import no_space_left
from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR
from tasks.core.parallel import processes
from tests.helpers.running import COMMAND, PATIENCE_S, runs, set_params, stage, wait_for


def test_output_and_metrics_appear_whole(toy: Path) -> None:
    done = stage(toy)
    assert done.returncode == 0, done.stderr
    assert (toy / "data/words/out.txt").read_text() == "w"
    assert json.loads((toy / "metrics/words.json").read_text()) == {"length": 1}
    assert not list((toy / "data").glob(".*partial"))
    assert not list((toy / ".textmill/work/words").iterdir())


def test_exit_codes_and_messages(toy: Path) -> None:
    set_params(toy, "words", fail=True)
    done = stage(toy)
    assert done.returncode == EXIT_USER_ERROR
    assert "records.jsonl: line 3" in done.stderr
    assert "Traceback" not in done.stderr
    set_params(toy, "words", tex="x")
    assert "words.tex: unknown key. Did you mean `text`?" in stage(toy).stderr
    set_params(toy, "words")
    missing = stage(toy, "left")
    assert missing.returncode == EXIT_USER_ERROR
    assert "data/words is missing" in missing.stderr
    assert "dvc repro left" in missing.stderr
    assert not (toy / "data/words").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stopped_at_any_point_leaves_no_output(toy: Path, number: signal.Signals) -> None:
    set_params(toy, "words", sleep_s=3600)
    process = subprocess.Popen(COMMAND, cwd=toy, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list((toy / "data").glob(".*partial/half.txt")))
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert not (toy / "data/words").exists()
    assert not (toy / "metrics/words.json").exists()
    if number is not signal.SIGKILL:
        assert process.returncode == EXIT_INTERRUPTED
        assert "Start again" in said
        wait_for(lambda: {run.info.status for run in runs(toy)} == {"KILLED"})
    set_params(toy, "words")
    assert stage(toy).returncode == 0
    assert sorted(path.name for path in (toy / "data").iterdir()) == ["words"]
    wait_for(lambda: "RUNNING" not in {run.info.status for run in runs(toy)})  # what SIGKILL left is ended too


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["pass", "raise ImportError('a part of it')"])
def test_a_stage_that_swallows_the_interruption_is_asked_again(toy: Path, answer: str) -> None:
    path = toy / "tasks/words/stage.py"
    swallow = f"try: time.sleep(60)\n    except BaseException: {answer}\n    time.sleep(60)"
    path.write_text(path.read_text().replace("time.sleep(params.sleep_s)", swallow))
    process = subprocess.Popen(COMMAND, cwd=toy, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list((toy / "data").glob(".*partial/half.txt")))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "Start again" in said) == (EXIT_INTERRUPTED, True)
    assert not (toy / "data/words").exists()


@pytest.mark.slow
def test_no_space_left(toy: Path) -> None:
    path = toy / "tasks/words/stage.py"
    full = f"raise OSError({errno.ENOSPC}, 'No space left on device', 'data/x')"
    path.write_text(path.read_text().replace("time.sleep(params.sleep_s)", full))
    done = stage(toy)
    assert done.returncode == EXIT_USER_ERROR
    assert "no space left on the disk" in done.stderr
    assert not (toy / "data/words").exists()


@pytest.mark.slow
def test_a_missing_package(toy: Path) -> None:
    path = toy / "tasks/words/stage.py"
    path.write_text(path.read_text().replace("time.sleep(params.sleep_s)", "import not_installed_anywhere"))
    done = stage(toy)
    assert done.returncode == EXIT_USER_ERROR
    assert "not_installed_anywhere" in done.stderr
    assert "make install" in done.stderr


@pytest.mark.slow
def test_metrics_that_are_no_numbers_are_refused(toy: Path) -> None:
    path = toy / "tasks/words/stage.py"
    path.write_text(path.read_text().replace('{"length": len(content + params.text)}', '{"loss": float("nan")}'))
    assert stage(toy).returncode == 1
    assert not (toy / "data/words").exists()


@pytest.mark.slow
def test_dvc_repro_is_tracked_and_parents_suffice(toy: Path) -> None:
    repro = [sys.executable, "-m", "dvc", "repro"]
    subprocess.run(repro, cwd=toy, check=True, capture_output=True)
    set_params(toy, "right", text="R")
    subprocess.run(repro, cwd=toy, check=True, capture_output=True)
    found = runs(toy)
    assert {run.info.status for run in found} == {"FINISHED"}
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 2
    names = [
        sorted(r.info.run_name for r in found if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id)
        for parent in parents
    ]
    assert names == [["join", "left", "right", "words"], ["join", "left (cached)", "right", "words (cached)"]]
    made = {run.info.run_name: run.info.run_id for run in found[:5]}
    cached = next(run for run in found if run.info.run_name == "left (cached)")
    assert cached.data.tags["textmill.made_by_run"] == made["left"]
    assert [parent.data.metrics for parent in parents] == [{"length": 5}] * 2  # what dvc.yaml declares as metrics
    assert [parent.data.params["right.text"] for parent in parents] == ["r", "R"]
    join = next(run for run in found if run.info.run_name == "join")
    assert {i.dataset.name for i in join.inputs.dataset_inputs} == {"data/left", "data/right", "data/join"}
    assert join.data.tags["provenance.commit"]


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_stage_ends_with_the_dvc_that_runs_it(toy: Path, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", shell)  # some give their place to the command, some stay between it and DVC
    set_params(toy, "words", sleep_s=3600)
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "words"], cwd=toy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE_S
    while not list((toy / "data").glob(".words.partial/half.txt")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.wait()
    while list((toy / "data").glob(".words.partial")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not (toy / "data/words").exists()
    assert [run.info.status for run in runs(toy) if run.data.tags.get("textmill.stage")] == ["KILLED"]


@pytest.mark.slow
def test_dvc_as_a_library_runs_stages(toy: Path) -> None:
    """From a script or a notebook no ancestor of a stage is a `dvc` command; the stage ends with the program instead."""
    reproduce = [sys.executable, "-c", "from dvc.repo import Repo; Repo('.').reproduce('words')"]
    done = subprocess.run(reproduce, cwd=toy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (toy / "data/words/out.txt").read_text() == "w"
    set_params(toy, "words", sleep_s=3600)
    process = subprocess.Popen(reproduce, cwd=toy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while not list((toy / "data").glob(".words.partial/half.txt")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.wait()
    while list((toy / "data").glob(".words.partial")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_ancestors_that_may_not_be_read_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ancestor:
        def __init__(self, pid: int, *command: str) -> None:
            self.pid, self.command = pid, command

        def cmdline(self) -> tuple[str, ...]:
            if not self.command:
                raise psutil.AccessDenied(self.pid)
            return self.command

        def name(self) -> str:
            return Path(self.cmdline()[0]).name

    def above(*ancestors: Ancestor) -> None:
        monkeypatch.setattr(psutil.Process, "parents", lambda _: list(ancestors))

    shell, hidden, init = Ancestor(9, "/bin/sh", "-c", "python -m tasks.x"), Ancestor(8), Ancestor(1, "/sbin/init")
    dvc, notebook = Ancestor(7, "python", "/usr/bin/dvc", "repro"), Ancestor(6, "python", "-m", "ipykernel_launcher")
    above(shell, hidden, dvc, init)
    assert processes.dvc_process() is dvc
    above(shell, hidden, notebook, init)
    assert processes.dvc_process() is None
    assert processes._program() is notebook
    above(shell, init)
    assert processes._program() is None


@pytest.mark.slow
def test_a_sweep_leaves_running_pipelines_alone(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `dvc repro` each stage is a process of its own, so the one that created the parent run is gone in the next."""
    from tasks.core.tracking.store import Store

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{toy / '.textmill/mlflow.db'}")  # mlflow sets it for good
    set_params(toy, "join", sleep_s=15)
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"], cwd=toy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE_S
    while not list((toy / "data").glob(".join.partial/half.txt")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert Store(toy).end_orphaned_runs() == []
    assert "KILLED" not in {run.info.status for run in runs(toy)}
    assert process.wait(PATIENCE_S) == 0
    assert {run.info.status for run in runs(toy)} == {"FINISHED"}


def test_work_goes_on_while_mlflow_is_away(toy: Path) -> None:
    done = stage(toy, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert (toy / "data/words/out.txt").exists()
    assert "not tracked in MLflow" in done.stderr


@pytest.mark.slow
def test_a_broken_tracking_database_is_told(toy: Path) -> None:
    (toy / ".textmill").mkdir(exist_ok=True)
    (toy / ".textmill/mlflow.db").write_bytes(b"this is no database" * 100)
    done = stage(toy)
    assert done.returncode == 0
    assert "not tracked in MLflow" in done.stderr


def test_arguments_are_refused(toy: Path) -> None:
    done = subprocess.run([*COMMAND, "--x"], cwd=toy, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USER_ERROR
    assert "params.yaml" in done.stderr


@pytest.mark.slow
def test_a_corrupted_cache_is_not_taken_for_a_result(toy: Path) -> None:
    repro = [sys.executable, "-m", "dvc", "repro"]
    subprocess.run(repro, cwd=toy, check=True, capture_output=True)
    for path in (toy / ".dvc/cache/files").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"corrupt")
    shutil.rmtree(toy / "data")
    done = subprocess.run(repro, cwd=toy, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (toy / "data/join/out.txt").read_text() == "wlwrj"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_full_disk_is_known_as_numpy_and_torch_tell_it(tmp_path: Path) -> None:
    import numpy as np
    import torch

    with pytest.raises(OSError) as by_numpy, Path("/dev/full").open("wb") as file:  # noqa: PT011 - it tells no errno
        np.zeros(100_000).tofile(file)
    assert no_space_left(by_numpy.value, tmp_path)
    with pytest.raises(OSError, match="No space") as by_torch, Path("/dev/full").open("wb") as file:
        torch.save(torch.zeros(100_000), file)
    assert no_space_left(by_torch.value, tmp_path)


def test_a_full_disk_is_known_by_words_quota_and_cause(tmp_path: Path) -> None:
    told = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert no_space_left(told, tmp_path)
    wrapped = RuntimeError("checkpoint not written")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert no_space_left(wrapped, tmp_path)
    assert not no_space_left(OSError(errno.EACCES, "Permission denied"), tmp_path)
    assert not no_space_left(ValueError("4 rows requested"), tmp_path)
