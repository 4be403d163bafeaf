"""Every test runs without telemetry, without a hub, and away from the tracking store of this checkout."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.helpers")
os.environ.update(
    DO_NOT_TRACK="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    DVC_NO_ANALYTICS="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
)
# The processes of pytest-xdist share the cores: more threads of PyTorch in each wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "TEXTMILL_OUTBOX", "DVC_ROOT", "DVC_STAGE"):
    os.environ.pop(variable, None)
# DVC's memory of files of a test is the test's: neither the checkout's nor in a folder that everybody may write in.
_SITE_CACHE = tempfile.TemporaryDirectory(prefix="textmill-dvc-")
os.environ["DVC_SITE_CACHE_DIR"] = _SITE_CACHE.name
# Stages that tests start do not compile this project's modules anew, each for itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# What a test starts as a subprocess is this environment's, whether it is activated or not.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests first: one of them last would keep one process busy while the other has nothing to do."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """What stages and MLflow set for the rest of their process ends with the test that ran them in this one."""
    before = dict(os.environ)
    yield
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_tracking_uri(None)
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def toy_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project, initialised once."""
    from tasks.core.tracking.store import create_database
    from tests.helpers.toy import make

    toy = make(tmp_path_factory.mktemp("template") / "toy")
    state = toy / ".textmill"
    state.mkdir()
    create_database(state / "mlflow.db")  # its tables alone; each toy would take seconds to make them
    return toy


@pytest.fixture
def toy(tmp_path: Path, toy_template: Path) -> Path:
    """A fresh toy project: words → left, right → join."""
    return Path(shutil.copytree(toy_template, tmp_path / "toy", symlinks=True))


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for files, in a project of its own where the test runs."""
    folder = tmp_path / "project" / "corpus"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder.parent)
    return folder


@pytest.fixture
def one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test in a folder of its own, where execution.yaml asks for one worker."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "execution.yaml").write_text("workers: 1\n")


@pytest.fixture
def one_thread(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test where execution.yaml asks for one thread: more make so small a model slower, much slower on a busy machine."""
    folder = tmp_path_factory.mktemp("execution")
    (folder / "execution.yaml").write_text("threads: 1\n")
    monkeypatch.chdir(folder)


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of a Prefect server that has never run: its tables take ten seconds of a processor to make."""
    home = tmp_path_factory.mktemp("prefect") / "home"
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    subprocess.run(command, env={**os.environ, "PREFECT_HOME": str(home)}, check=True, capture_output=True)
    return home


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Iterator[dict[str, str]]:
    """A Prefect server for the whole module: environment variables that point to it."""
    from flows.server import free_port, healthy
    from flows.supervision import dvc_stage, supervised
    from tests.helpers.checkout import ROOT
    from tests.helpers.running import KEY, wait_for

    port, home = free_port(0), Path(shutil.copytree(prefect_home, tmp_path_factory.mktemp("prefect") / "home"))
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_API_AUTH_STRING": ":".join(KEY),
    }
    of_server = {"PREFECT_SERVER_API_AUTH_STRING": ":".join(KEY), "PYTHONPATH": str(ROOT)}
    process = supervised.popen(
        [sys.executable, "-m", "flows.guarded_server", "prefect", str(port)],
        home,
        dvc_stage.stage_environment(environment | of_server),
    )
    threading.Thread(target=lambda: [None for _ in process.stdout or []], daemon=True).start()
    wait_for(lambda: healthy(f"http://127.0.0.1:{port}/api/health"))
    yield environment
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
