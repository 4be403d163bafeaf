"""A run that fails or is killed takes nothing away: the last good outputs are back, by dvc.lock, out of DVC's cache."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.core import graph
from tasks.core.paths import write_json
from tasks.core.restore import recover, restore
from tests.helpers.running import flow, set_params, wait_for

DVC = [sys.executable, "-m", "dvc"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, toy_template: Path) -> Path:
    """The toy after `dvc repro words`; the metrics of `words` are kept in git, as the report's are."""
    project = Path(shutil.copytree(toy_template, tmp_path_factory.mktemp("made") / "toy", symlinks=True))
    declared, outs = (project / "dvc.yaml").read_text(), "outs: [data/words, metrics/words.json]"
    assert outs in declared
    kept = "outs: [data/words]\n    metrics: [{metrics/words.json: {cache: false}}]"
    (project / "dvc.yaml").write_text(declared.replace(outs, kept))
    subprocess.run([*DVC, "repro", "words"], cwd=project, check=True, capture_output=True)
    return project


@pytest.fixture
def made(tmp_path: Path, template: Path) -> Path:
    graph.load_graph.cache_clear()
    return Path(shutil.copytree(template, tmp_path / "toy", symlinks=True))


def take_away(project: Path) -> None:
    """What DVC does before it starts the stage."""
    shutil.rmtree(project / "data/words")
    (project / "metrics/words.json").unlink()


def intact(project: Path) -> bool:
    files = [path for path in (project / "data/words").rglob("*") if path.is_file()]
    content = {path.name: path.read_text() for path in [*files, project / "metrics/words.json"] if path.exists()}
    left = [path for room in ("data", "metrics") for path in (project / room).glob(".*") if path.name != ".gitignore"]
    return not left and content == {
        "out.txt": "w",
        "half.txt": "half",
        "words.json": json.dumps({"length": 1}, indent=2) + "\n",
    }


@pytest.mark.slow
def test_who_reads_while_dvc_writes_dvc_lock_waits(made: Path) -> None:
    """DVC empties dvc.lock and writes it anew, when two stages of a flow run at a time, while the other one starts."""
    lock = made / "dvc.lock"
    whole, emptied = lock.read_text(), threading.Event()

    def write() -> None:
        with graph.open_repo(made).lock, lock.open("w") as file:
            emptied.set()
            time.sleep(1)
            file.write(whole)

    with ThreadPoolExecutor() as pool:
        pool.submit(write)
        assert emptied.wait(60)
        assert list(graph.load_graph(made)) == ["words", "left", "right", "join"]
        assert lock.read_text() == whole
        emptied.clear()
        writing = pool.submit(write)
        take_away(made)
        assert emptied.wait(60)
        recover(made)
        writing.result()
    assert intact(made)


@pytest.mark.slow
def test_a_failed_stage_leaves_the_last_good_outputs(made: Path) -> None:
    before = (made / "dvc.lock").read_bytes()
    set_params(made, "words", fail=True)
    done = subprocess.run([*DVC, "repro", "words"], cwd=made, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "back in place: words" in done.stdout + done.stderr
    assert intact(made)
    assert (made / "dvc.lock").read_bytes() == before
    set_params(made, "words")
    status = subprocess.run([*DVC, "status", "words"], cwd=made, capture_output=True, text=True, check=True).stdout
    assert "up to date" in status


@pytest.mark.slow
def test_after_a_kill_the_next_start_of_any_command_brings_them_back(made: Path) -> None:
    set_params(made, "words", sleep_s=3600)
    process = subprocess.Popen([*DVC, "repro", "words"], cwd=made, start_new_session=True)
    wait_for(lambda: list((made / "data").glob(".words.partial/half.txt")))
    recover(made)  # by somebody who looks at what a running stage will make anew
    assert not (made / "data/words").exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (made / "data/words").exists()
    shutil.rmtree(made / "data/.words.partial")
    said = subprocess.run(
        [sys.executable, "-m", "flows.summary"], cwd=made, capture_output=True, text=True, check=True
    ).stdout
    assert intact(made)
    assert "Of an earlier run, before parameters, code or inputs changed  words (" in said
    assert "Not made yet  left, right, join" in said


@pytest.mark.slow
def test_a_flow_brings_back_what_a_stage_that_was_stopped_took(made: Path, server: dict[str, str]) -> None:
    """Also one that is killed before it can do so itself."""
    path = made / "tasks/words/stage.py"
    path.write_text(path.read_text().replace("time.sleep(params.sleep_s)", "import os; os.kill(os.getpid(), 9)"))
    assert flow(made, "--stages", "words", **server).returncode == 1
    shutil.rmtree(made / "data/.words.partial")
    assert intact(made)


def test_nothing_is_put_beside_what_was_changed(made: Path) -> None:
    take_away(made)
    write_json(made / "metrics/words.json", {"length": 7})
    assert restore(made, ["words"]) == []
    assert not (made / "data/words").exists()
    (made / "metrics/words.json").unlink()
    assert restore(made, ["words"]) == ["words"]
    assert intact(made)
    (made / "metrics/words.json").unlink()  # killed between the two
    assert restore(made, ["words", "left"]) == ["words"]
    assert intact(made)
    assert restore(made, ["words"]) == []


def test_an_emptied_cache_brings_nothing_and_breaks_nothing(made: Path) -> None:
    take_away(made)
    some = next(
        path for path in (made / ".dvc/cache/files").rglob("*") if path.is_file() and path.read_text() == "half"
    )
    some.unlink()
    recover(made)
    assert not (made / "data/words").exists()
    assert [path.name for path in (made / "data").iterdir()] == [".gitignore"]
