"""A toy project in the house's own form: four stages that take no time, for tests of the frame and the flow."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.checkout import ROOT

MAIN = """
from tasks.core.stage_main import stage_main
from tasks.{stage}.stage import run

stage_main(run)
"""
STAGE = '''
import time
from pydantic import Field
from tasks.core.errors import UserError
from tasks.core.params import StageParams
from tasks.core.paths import Inputs, Metrics, Outputs


class Params(StageParams):
    """Toy."""

    text: str = Field("x", min_length=1)
    sleep_s: float = Field(0.0, ge=0)
    fail: bool = False


def run(params: Params, inputs: Inputs, outputs: Outputs) -> Metrics:
    if params.fail:
        raise UserError("records.jsonl: line 3: broken, mend it")
    (outputs / "half.txt").write_text("half")
    time.sleep(params.sleep_s)
    content = "".join(sorted(p.read_text() for folder in inputs.values() for p in folder.glob("out.txt")))
    (outputs / "out.txt").write_text(content + params.text)
    return {"length": len(content + params.text)}
'''

EDGES = {"words": [], "left": ["words"], "right": ["words"], "join": ["left", "right"]}


def make(folder: Path) -> Path:
    """Write the toy project to `folder` and initialise git and DVC there; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    # The summary names what the report shows.
    for package in ("tasks/core", "tasks/documents", "tasks/model", "tasks/report", "flows"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tasks" / "__init__.py", folder / "tasks" / "__init__.py")
    lines = ["stages:"]
    for stage, upstream in EDGES.items():
        (folder / "tasks" / stage).mkdir()
        (folder / "tasks" / stage / "stage.py").write_text(STAGE)
        (folder / "tasks" / stage / "__main__.py").write_text(MAIN.format(stage=stage))
        deps = "".join(f"      - data/{name}\n" for name in upstream) + f"      - tasks/{stage}"
        lines.append(
            f"  {stage}:\n    cmd: python -m tasks.{stage}\n    deps:\n{deps}\n    params: [{stage}]\n"
            f"    outs: [data/{stage}, metrics/{stage}.json]"
        )
    # The last one's metrics are those to look at, as the report's.
    lines[-1] = lines[-1].replace(", metrics/join.json]", "]\n    metrics: [{metrics/join.json: {cache: false}}]")
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")
    (folder / "params.yaml").write_text("".join(f"{s}: {{text: {s[0]}, sleep_s: 0, fail: false}}\n" for s in EDGES))
    (folder / ".gitignore").write_text(".textmill/\n__pycache__/\n")
    run = lambda *command: subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: E731
    run("git", "init", "-q")
    run("git", "config", "user.name", "t")  # which DVC asks for where it queues an experiment
    run("git", "config", "user.email", "t@example.org")
    run(sys.executable, "-m", "dvc", "init", "-q")
    run(sys.executable, "-m", "dvc", "config", "core.analytics", "false")
    shutil.copy(ROOT / ".dvcignore", folder)
    run("git", "add", "-A")
    run("git", "commit", "-qm", "toy")
    return folder
