"""Every test runs without telemetry, without a hub, and away from the tracking store of this checkout."""

import os
import shutil
import sys
from pathlib import Path

import pytest

os.environ.update(
    DO_NOT_TRACK="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    DVC_NO_ANALYTICS="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
)
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "TEXTMILL_PARENT_RUN", "DVC_ROOT", "DVC_STAGE"):
    os.environ.pop(variable, None)
# What a test starts as a subprocess is this environment's, whether it is activated or not.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture(scope="session")
def toy_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project, initialised once."""
    from toy import make

    return make(tmp_path_factory.mktemp("template") / "toy")


@pytest.fixture
def toy(tmp_path: Path, toy_template: Path) -> Path:
    """A fresh toy project: words → left, right → join."""
    return Path(shutil.copytree(toy_template, tmp_path / "toy", symlinks=True))


@pytest.fixture
def one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test in a folder of its own, where execution.yaml asks for one worker."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "execution.yaml").write_text("workers: 1\n")
