"""A disk that is full, a real one of 256 kB, is told as such by whoever writes to it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.disk_full import no_space_left
from tasks.core.errors import EXIT_USER_ERROR
from tests.helpers.checkout import ROOT

WRITERS = {
    "write": "open('x', 'wb').write(array.tobytes())",
    "tofile": "array.tofile('x')",
    "save": "np.save('x.npy', array)",
    "savez": "np.savez('x.npz', array)",
    "parquet": "pq.write_table(pa.table({'x': array}), 'x')",
    "safetensors": "save_file({'x': torch.from_numpy(array)}, 'x')",
    "sqlite": "sqlite3.connect('x').execute('create table x as select zeroblob(1000000)')",
}
SCRIPT = """
import json, os, pickle, sqlite3, sys
from pathlib import Path
NONE = Path("none")
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, torch
from safetensors.torch import save_file
from tasks.core.disk_full import no_space_left
array = np.random.default_rng(0).integers(0, 1 << 60, 100_000)
os.chdir(sys.argv[1])
told = {}
for name, writer in json.loads(sys.argv[2]).items():
    try:
        exec(writer)
    except Exception as error:
        told[name] = [no_space_left(e, NONE) for e in (error, pickle.loads(pickle.dumps(error)))]  # as it comes from a worker
    for left in os.listdir():
        os.unlink(left)
print(json.dumps(told))
"""


@pytest.fixture
def mounted(tmp_path: Path) -> list[str]:
    """What leads a command, and its arguments, that is to see a small file system at `tmp_path / "small"`."""
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size=256k tmpfs {small} && exec "$@"'
    lead = [shutil.which("unshare") or "", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if not lead[0] or subprocess.run([*lead, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    return lead


@pytest.mark.slow
def test_each_way_to_write_is_understood(tmp_path: Path, mounted: list[str]) -> None:
    command = [*mounted, sys.executable, "-c", SCRIPT, str(tmp_path / "small"), json.dumps(WRITERS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: [True, True] for name in WRITERS}


@pytest.mark.slow
def test_a_stage_says_so(toy: Path, tmp_path: Path, mounted: list[str]) -> None:
    stage = toy / "tasks/words/stage.py"
    writer = f"__import__('numpy').zeros(100_000).tofile({str(tmp_path / 'small/x')!r})"
    stage.write_text(stage.read_text().replace("time.sleep(params.sleep_s)", writer))
    command = [*mounted, sys.executable, "-m", "tasks.words"]
    done = subprocess.run(command, cwd=toy, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USER_ERROR, done.stderr
    assert "no space left on the disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (toy / "data/words").exists()


def test_other_errors_are_no_full_disk() -> None:
    assert not no_space_left(FileNotFoundError(2, "No such file", "No space left on device"), Path("none"))
    assert not no_space_left(ValueError("100 requested"), Path("none"))
    assert not no_space_left(KeyboardInterrupt(), Path("none"))
