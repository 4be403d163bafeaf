"""A `dvc` that is forked from a process that has imported DVC does what one started from nothing does."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from flows.supervision import dvc_stage
from flows.supervision.supervised import forked_dvc, start_dvc
from tasks.core.errors import EXIT_USER_ERROR
from tests.helpers.checkout import ROOT
from tests.helpers.running import locked, processes_of, set_params, wait_for
from tests.helpers.toy import make


@pytest.mark.slow
def test_forked_and_cold_give_the_same(toy: Path, tmp_path: Path) -> None:
    """Outcomes, dvc.lock and what is said; the exit code of a stage that failed; what is asked to stop stops."""
    other, never = make(tmp_path / "other"), threading.Event()
    said: dict[str, list[str]] = {"forked": [], "cold": []}
    with forked_dvc(toy, dvc_stage.stage_environment({})) as forked:
        for project, start, lines in ((toy, forked, said["forked"]), (other, start_dvc, said["cold"])):
            outcomes = [
                dvc_stage.reproduce(stage, project, lines.append, never, start=start)
                for stage in ("words", "left", "words")
            ]
            assert outcomes == ["Completed", "Completed", "Cached"]
            set_params(project, "words", fail=True)
            with pytest.raises(dvc_stage.StageFailed, match="line 3: broken, mend it") as failed:
                dvc_stage.reproduce("words", project, lines.append, never, start=start)
            assert failed.value.code == EXIT_USER_ERROR
        assert said["forked"] == said["cold"]
        assert locked(toy) == locked(other)
        set_params(toy, "words", sleep_s=3600)
        stop = threading.Event()
        half = toy / "data/.words.partial/half.txt"
        threading.Thread(target=lambda: (wait_for(half.exists), stop.set())).start()
        with pytest.raises(dvc_stage.StageStopped):
            dvc_stage.reproduce("words", toy, print, stop, start=forked)
    wait_for(lambda: not processes_of(toy))


@pytest.mark.slow
def test_what_forks_may_be_lost(toy: Path) -> None:
    never = threading.Event()
    with forked_dvc(toy, dvc_stage.stage_environment({})) as forked:
        assert dvc_stage.reproduce("words", toy, print, never, start=forked) == "Completed"
        warm = next(p for p in psutil.Process().children() if "flows.supervision.dvc_fork_server" in p.cmdline())
        warm.kill()
        wait_for(lambda: warm.status() == psutil.STATUS_ZOMBIE)
        assert dvc_stage.reproduce("left", toy, print, never, start=forked) == "Completed"
    assert set(locked(toy)["stages"]) == {"words", "left"}


@pytest.mark.slow
def test_a_command_has_its_own_environment_and_folder(toy: Path, tmp_path: Path) -> None:
    """Not those of the process that it is forked from."""
    code = toy / "tasks/words/stage.py"
    tell = "import json, os; json.dump([os.environ.get('ASKED'), os.environ.get('LEFT')], open('told.json', 'w'))"
    code.write_text(code.read_text().replace("time.sleep(params.sleep_s)", tell))
    environment = dvc_stage.stage_environment({"LEFT": "over", "PYTHONPATH": str(toy)})
    with forked_dvc(tmp_path, environment) as forked:
        dvc_stage.reproduce("words", toy, print, threading.Event(), environment={"ASKED": "for"}, start=forked)
    assert json.loads((toy / "told.json").read_text()) == ["for", None]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts the system's own threads")
def test_what_forks_has_one_thread_and_nothing_that_does_not_survive_a_fork() -> None:
    ask = (
        "import os, sys, importlib; from flows.supervision.dvc_fork_server import MODULES; [importlib.import_module(m) for m in MODULES];"
        "print(len(os.listdir('/proc/self/task')), {'torch', 'numba', 'mlflow', 'prefect'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1 set()\n"
