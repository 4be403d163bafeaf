"""Unfinished work: found again by the same code, parameters and inputs; never by others, and never by two at once."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tasks.core import paths
from tasks.core.errors import EXIT_INTERRUPTED
from tasks.pretrain.params import PretrainParams
from tests.helpers.running import COMMAND, set_params, stage

# Leaves a trace in its work folder, says what it found there, and sleeps as params.yaml says.
NOTED = """(outputs / "half.txt").write_text("half")
    found = len(list(outputs.work.iterdir()))
    (outputs.work / f"checkpoint-{found}").touch()
    (outputs / "found.txt").write_text(str(found))
"""


@pytest.fixture
def noting(toy: Path) -> Path:
    """The toy project whose first stage keeps checkpoints."""
    path = toy / "tasks/words/stage.py"
    path.write_text(path.read_text().replace('(outputs / "half.txt").write_text("half")\n', NOTED))
    return toy


def wait_for(pattern: str, folder: Path) -> None:
    deadline = time.monotonic() + 300
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"waited in vain for {pattern}"
        time.sleep(0.05)


def stop_at_checkpoint(project: Path) -> None:
    """Start the first stage and end it with SIGTERM after its checkpoint."""
    process = subprocess.Popen(COMMAND, cwd=project, stderr=subprocess.DEVNULL)
    wait_for("data/.words.partial/found.txt", project)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == EXIT_INTERRUPTED


@pytest.mark.slow
def test_changed_code_does_not_continue_the_work_of_the_old(noting: Path) -> None:
    code = noting / "tasks/words/stage.py"
    endless = code.read_text().replace("time.sleep(params.sleep_s)", "time.sleep(0 if found else 600)")
    code.write_text(endless)
    stop_at_checkpoint(noting)
    before = {path.name for path in (noting / ".textmill/work/words").iterdir()}
    code.write_text(code.read_text().replace("600", "0"))
    assert stage(noting).returncode == 0
    assert (noting / "data/words/found.txt").read_text() == "0"
    assert {path.name for path in (noting / ".textmill/work/words").iterdir()} == before  # not its own: it stays
    code.write_text(endless)
    assert stage(noting).returncode == 0
    assert (noting / "data/words/found.txt").read_text() == "1"
    assert not list((noting / ".textmill/work/words").iterdir())


def test_how_it_is_done_makes_no_other_work() -> None:
    """Switched between two starts, pretraining goes on; what decides the result begins it anew."""
    plain = PretrainParams()
    same = {"micro_batch_rows": 2, "zero_stage": 3, "offload": "cpu", "compile": True, "on_not_finite": "skip"}
    same |= {"attention": "sdpa", "activation_checkpointing": True}
    assert PretrainParams(**same).work_identity() == plain.work_identity()
    for other in ({"seed": 1}, {"precision": "bf16", "zero_stage": 1}, {"on_spike": "skip"}, {"steps": 5}):
        assert PretrainParams(**other).work_identity() != plain.work_identity()


@pytest.mark.slow
def test_continued_by_other_means(noting: Path) -> None:
    code = noting / "tasks/words/stage.py"
    endless = code.read_text().replace("time.sleep(params.sleep_s)", "time.sleep(0 if found else 600)")
    code.write_text(endless.replace('"""Toy."""', '"""Toy."""\n\n    same_work = frozenset({"sleep_s"})'))
    stop_at_checkpoint(noting)
    set_params(noting, "words", sleep_s=0.5)
    assert stage(noting).returncode == 0
    assert (noting / "data/words/found.txt").read_text() == "1"


@pytest.mark.slow
def test_experiments_at_once_leave_each_others_work_alone(noting: Path, tmp_path: Path) -> None:
    """As `dvc queue start -j 2` runs them: workspaces of their own, one checkout named in DVC_ROOT."""
    environment = {**os.environ, "DVC_ROOT": str(noting)}
    code = noting / "tasks/words/stage.py"
    endless = 'time.sleep(0 if found or params.text == "short" else 600)'
    code.write_text(code.read_text().replace("time.sleep(params.sleep_s)", endless))
    spaces = {name: tmp_path / name for name in ("long", "short", "same")}
    for name, space in spaces.items():
        subprocess.run(["cp", "-r", str(noting), str(space)], check=True)
        set_params(space, "words", text="short" if name == "short" else "w")
    long = subprocess.Popen(COMMAND, cwd=spaces["long"], env=environment)
    wait_for("data/.words.partial/found.txt", spaces["long"])
    same = subprocess.Popen(COMMAND, cwd=spaces["same"], env=environment, stderr=subprocess.PIPE, text=True)
    short = subprocess.run(COMMAND, cwd=spaces["short"], env=environment, check=False)
    assert short.returncode == 0
    assert list(noting.glob(".textmill/work/words/*/checkpoint-0"))  # the long one's
    assert same.stderr is not None
    assert any("another run works on the same" in line for line in same.stderr)
    long.send_signal(signal.SIGKILL)
    long.wait()
    same.communicate(timeout=300)
    assert same.returncode == 0  # the one that waited has continued its work
    assert (spaces["same"] / "data/words/found.txt").read_text() == "1"
    assert not list((noting / ".textmill/work/words").iterdir())
    # Timings and provenance tell of one workspace.
    assert all((spaces[name] / f".textmill/{kind}/words.json").exists() for name in ("short", "same") for kind in OWN)
    assert not any((noting / ".textmill" / kind).exists() for kind in OWN)


OWN = ("timings", "provenance")


def test_work_is_forgotten_when_nobody_holds_or_continues_it(tmp_path: Path) -> None:
    def begin(name: str, days: float) -> Path:
        with paths.work_folder(tmp_path, "words", name) as folder:
            (folder / "checkpoint").touch()
        for path in (folder / "checkpoint", folder):
            os.utime(path, (time.time() - days * 86400,) * 2)
        return folder

    old, recent, held = begin("old", 31), begin("recent", 29), begin("held", 31)
    holding, over = threading.Event(), threading.Event()

    def hold() -> None:
        with paths.work_folder(tmp_path, "words", "held"):
            for path in (held / "checkpoint", held):
                os.utime(path, (0, 0))
            holding.set()
            over.wait(60)

    os.utime(held)  # so that it is there to be held
    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(60)
    with paths.work_folder(tmp_path, "left", "x"):
        assert not old.exists()
        assert (recent / "checkpoint").exists()
        assert (held / "checkpoint").exists()
    over.set()
    thread.join()
    with paths.work_folder(tmp_path, "left", "x"):
        assert not held.exists()
