"""One stage under DVC: a supervised `dvc repro --single-item`, its log streamed, its outcome read from what DVC says."""

import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from flows.run_lock import repair_dvc_lock
from flows.supervision.supervise import EXIT_STOPPED, GRACE_VARIABLE
from flows.supervision.supervised import Start, start_dvc
from tasks.core.errors import EXIT_INTERRUPTED
from tasks.core.progress import EVENTS_VARIABLE, ProgressState, read_progress_event

Outcome = Literal["Cached", "Restored", "Completed"]
TELEMETRY_OFF = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
PROGRESS_ENVIRONMENT = {EVENTS_VARIABLE: "1", "TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""A stage of the flow tells its progress in lines that the flow reads; bars of libraries would be torn to pieces there."""
CLOCK = re.compile(r"^\d\d:\d\d:\d\d ")
"""What a stage's own log begins a line with; Prefect's log has a clock already."""
NOISE = re.compile(
    r"^(> |Running stage '|(Generating|Updating) lock file|WARNING: Process .* in RWLock-file|To track the changes"
    r"|To enable auto staging|Use `dvc push`|\s*git add|\s*dvc config|\w+: done in [\d.]+ s$|$)"
)
"""What the flow says itself, or in other words."""


class StageFailed(Exception):
    """A stage ended with an error.

    Attributes:
        code: the exit code of the stage (see tasks.core.errors), or None where DVC itself failed.
    """

    def __init__(self, stage: str, code: int | None, last_lines: list[str]) -> None:
        self.stage, self.code = stage, code
        super().__init__(f"{stage} failed" + (f" (exit code {code})" if code else "") + ": " + " | ".join(last_lines))


class StageStopped(Exception):
    """A stage was stopped from outside (Ctrl-C, SIGTERM, cancel); it continues at the next start."""


class StageTimedOut(Exception):
    """A stage ran past the `timeout_s` of its `meta:` in dvc.yaml and was stopped."""


_every_core = threading.Lock()


@contextmanager
def exclusive_turn(stage: str, exclusive: bool, stop: threading.Event) -> Iterator[None]:
    """Wait until no other stage runs that is `exclusive`, i.e. uses every core or GPU: two such are slower than one by one.

    Raises:
        StageStopped: `stop` was set while it waited.
    """
    if not exclusive:
        yield
        return
    while not _every_core.acquire(timeout=0.2):
        if stop.is_set():
            raise StageStopped(stage)
    try:
        yield
    finally:
        _every_core.release()


def stage_environment(extra: dict[str, str]) -> dict[str, str]:
    """The environment of a stage: this interpreter first on PATH, telemetry off, unbuffered output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **TELEMETRY_OFF, "PATH": path, "PYTHONUNBUFFERED": "1", **extra}


def _of_dvc(stage: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """DVC's own lines on a stage, for which nothing in the stage's log is to be taken: nothing ran, and the exit code.

    The latter may follow what the stage left on an unfinished line, such as a progress bar.
    """
    name = re.escape(stage)
    return (
        re.compile(f"Stage '{name}' (didn't change, skipping|is cached - skipping run)"),
        re.compile(f"ERROR: failed to reproduce '{name}': failed to run: .*, exited with (-?\\d+)$"),
    )


def reproduce(
    stage: str,
    root: Path,
    log: Callable[[str], None],
    stop: threading.Event,
    force: bool = False,
    timeout_s: float | None = None,
    grace_s: float | None = None,
    environment: dict[str, str] | None = None,
    start: Start = start_dvc,
    report: Callable[[ProgressState | None], None] = lambda _: None,
) -> Outcome:
    """Bring one stage up to date with `dvc repro --single-item`, passing every line of its output to `log`.

    When it is stopped it has `grace_s` (default 20) between SIGTERM and SIGKILL. `start` starts DVC.
    `report` is called with what the stage tells of its progress, and several times a second with None while it runs.

    Raises:
        StageFailed: the stage, or DVC, ended with an error.
        StageStopped: `stop` was set, or the stage or its DVC was ended by SIGTERM.
        StageTimedOut: it took longer than `timeout_s`.
    """
    repair_dvc_lock(root)
    # Without --wait-for-lock stages that start together fail on DVC's lock (dvc #10465).
    arguments = ["--wait-for-lock", "repro", "--single-item", stage] + (["--force"] if force else [])
    patience = {} if grace_s is None else {GRACE_VARIABLE: str(grace_s)}
    process = start(arguments, root, stage_environment(PROGRESS_ENVIRONMENT | (environment or {}) | patience))
    deadline = time.monotonic() + timeout_s if timeout_s else None
    timed_out = threading.Event()

    def watch() -> None:
        while not process.ended():
            if deadline is not None and time.monotonic() > deadline:
                timed_out.set()
            report(None)
            if stop.wait(0.2) or timed_out.is_set():
                process.stop()
                return

    threading.Thread(target=watch, daemon=True).start()
    outcome: Outcome = "Completed"
    skipped, exited = _of_dvc(stage)
    last: deque[str] = deque(maxlen=3)
    code: int | None = None
    for raw in process.lines:
        if state := read_progress_event(raw):
            report(state)
            continue
        line = CLOCK.sub("", raw.rstrip())
        if found := skipped.match(raw):
            outcome = "Cached" if found.group(1).startswith("didn't") else "Restored"
        if found := exited.search(line):
            code = int(found.group(1))
        if not NOISE.match(line):
            log(line)
            if not line.startswith("ERROR: failed to reproduce"):
                last.append(line)
    ended = process.wait()
    if timed_out.is_set():
        raise StageTimedOut(f"{stage}: stopped after {timeout_s:.0f} s, the timeout_s of its meta in dvc.yaml")
    if stop.is_set() or code == EXIT_INTERRUPTED or ended == EXIT_STOPPED:
        raise StageStopped(stage)
    if ended:
        raise StageFailed(stage, code, list(last))
    return outcome
