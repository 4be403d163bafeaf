"""What DVC, MLflow and Prefect cost around the work: `make bench`.

Four stages that do nothing are run bare (one Python process each that calls `run`), under `dvc repro` with and
without tracking, and under the flow, in turn and in one run; medians of several rounds. The cost is a few seconds
a stage whatever the stage does, so it is to be held against stages that take minutes.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flows.supervision.dvc_stage import stage_environment
from tasks.core.provenance import processor
from tests.helpers.toy import EDGES, make

BARE = """
from pathlib import Path
from tasks.{stage} import run, Params
from tasks.core.paths import Inputs, Outputs
out = Path("bare/{stage}"); out.mkdir(parents=True, exist_ok=True)
run(Params(), Inputs({{name: Path("bare") / name for name in {upstream}}}), Outputs(out, out))
"""


def execute(command: list[str], project: Path, **extra: str) -> None:
    """Run to the end, quietly; a failure shows what the command said."""
    done = subprocess.run(
        command, cwd=project, env=stage_environment(extra), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def forget(project: Path) -> None:
    """Back to a checkout in which nothing has run; the tracking store and the server's database stay."""
    for folder in ("bare", "data", "metrics", ".dvc/cache"):
        shutil.rmtree(project / folder, ignore_errors=True)
    (project / "dvc.lock").unlink(missing_ok=True)


def bare(project: Path) -> None:
    for stage, upstream in EDGES.items():
        execute([sys.executable, "-c", BARE.format(stage=stage, upstream=upstream)], project)


def repro_untracked(project: Path) -> None:
    # A closed port: refused at once, so what is left is DVC and the frame.
    execute([sys.executable, "-m", "dvc", "repro"], project, MLFLOW_TRACKING_URI="http://127.0.0.1:9")


def repro(project: Path) -> None:
    execute([sys.executable, "-m", "dvc", "repro"], project)


def flow(project: Path) -> None:
    execute([sys.executable, "-m", "flows.pipeline"], project)


VARIANTS: dict[str, tuple[Callable[[Path], None], bool]] = {
    "bare stages": (bare, True),
    "dvc repro, MLflow away": (repro_untracked, True),
    "dvc repro": (repro, True),
    "flow": (flow, True),
    "dvc repro, nothing changed": (repro, False),
    "flow, nothing changed": (flow, False),
}


def main() -> None:
    """Print the table: median seconds, ratio to bare stages, seconds added per stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        project = make(Path(folder) / "toy")
        repro(project)  # creates the databases, fills the file cache
        flow(project)
        times: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(rounds):
            for name, (action, fresh) in VARIANTS.items():
                if fresh:
                    forget(project)
                started = time.perf_counter()
                action(project)
                times[name].append(time.perf_counter() - started)
    base = statistics.median(times["bare stages"])
    print(f"{len(EDGES)} empty stages, medians of {rounds} rounds, {processor()}, {os.cpu_count()} cores,", end=" ")
    print(
        f"Python {platform.python_version()}\n\n| variant | seconds | × bare | added a stage |\n| --- | --- | --- | --- |"
    )
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"| {name} | {middle:.2f} | {middle / base:.1f} | {(middle - base) / len(EDGES):+.2f} s |")


if __name__ == "__main__":
    main()
