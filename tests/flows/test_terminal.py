"""What a person sees: bars in a terminal, plain lines elsewhere, no line twice, no Python in a sentence."""

import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.progress.time_left import RunProgress
from tasks.core.number_format import format_counts
from tasks.core.progress import EVENTS_VARIABLE, Progress, ProgressState, duration, read_progress_event
from tests.helpers.checkout import ROOT

RUN = """
import logging, sys, time
from pathlib import Path
from prefect.logging import get_logger
from flows.progress.time_left import RunProgress
from flows.progress.stage_log import StageLog
from flows.progress.terminal import Terminal
from tasks.core.progress import ProgressState

with Terminal():
    log = StageLog(logging.LoggerAdapter(get_logger("task_runs"), {}), "clean", RunProgress(Path("."), ["clean", "dedup"], ["clean"]))
    log._log.process = lambda message, given: (message, given)  # as Prefect's adapter keeps what it is given
    with log:
        log.line("12 documents in")
        for done in range(10):
            log.report(ProgressState("clean", "shards", done + 1, 10, done + 1.0, False))
            time.sleep(0.1)
        log.report(ProgressState("clean", "shards", 10, 10, 10.0, True))
    log.end("done")
"""


def test_a_log_is_told_every_few_seconds_and_no_count_twice(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.progress.SECONDS_BETWEEN_LINES", 0.0)
    caplog.set_level(logging.INFO, logger="progress")
    with Progress("rows", total=3, unit="rows") as progress:
        for _ in range(3):
            progress.advance()
    with Progress("nothing", total=0, unit="rows"):
        pass
    counts = [record.getMessage().split(" rows")[0] for record in caplog.records]
    assert counts == ["rows: 1/3 (33%)", "rows: 2/3 (67%)", "rows: 3/3 (100%)"]


def test_a_stage_of_the_flow_tells_news(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(EVENTS_VARIABLE, "1")
    with Progress("train", total=2, unit="steps") as progress:
        progress.advance(2, loss="3.2")
    told = [read_progress_event(line) for line in capsys.readouterr().err.split("\n")]
    assert [(state.done, state.over) for state in told if state] == [(0, False), (2, True)]
    assert read_progress_event("half a bar " + ProgressState("x", "rows", 1, None, 1.0, False).event_line()) is not None
    assert read_progress_event("textmill progress is a sentence") is None
    assert read_progress_event(ProgressState("x", "rows", 1, None, 1.0, False).event_line()[:-5]) is None


def test_a_line_says_how_long_it_will_take() -> None:
    state = ProgressState("train", "steps", 50, 200, 100.0, False, {"loss": "3.2"})
    assert state.text() == "train: 50/200 (25%) steps, 0.5/s, 5 min 00 s left, loss 3.2"
    assert "left" not in ProgressState("train", "steps", 200, 200, 100.0, True).text()
    assert [duration(seconds) for seconds in (0.4, 59.4, 61, 3600, 7325)] == [
        "0 s",
        "59 s",
        "1 min 01 s",
        "1 h 00 min",
        "2 h 02 min",
    ]


def test_counts_are_put_in_words() -> None:
    counts = {"documents": 1204, "held_out": {"items": 3, "failed": 0}, "bits_per_byte": 2.56688, "empty": {}}
    assert format_counts(counts) == "documents 1,204, held out (items 3), bits per byte 2.567"
    assert format_counts({"near_duplicate": 0}) == "none"


def test_what_is_left_is_known_once_every_stage_has_run(tmp_path: Path) -> None:
    run_progress = RunProgress(tmp_path, ["a", "b", "c"], ["b", "c"])
    assert (run_progress.done(), run_progress.left_s(), run_progress.place("b")) == (1, None, "stage 2 of 3")
    for stage in ("b", "c"):
        run_progress.begin(stage)
        run_progress.end(stage)
    assert (run_progress.done(), run_progress.left_s()) == (3, 0.0)
    again = RunProgress(tmp_path, ["a", "b", "c"], ["c"])
    assert again.left_s() is not None


def seen(terminal: bool) -> list[str]:
    """What the run above writes to standard error, line by line, a bar's redraws included."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    environment["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
    with subprocess.Popen([sys.executable, "-c", RUN], env=environment, stderr=theirs) as process:
        os.close(theirs)
        text = b""
        try:
            while some := os.read(ours, 4096):
                text += some
        except OSError:  # how Linux says that nobody is left at the other end of a terminal
            pass
    os.close(ours)
    assert process.returncode == 0, text.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode())
    return [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.mark.slow
def test_bars_in_a_terminal_and_plain_lines_in_a_log() -> None:
    drawn = seen(terminal=True)
    assert any(re.search(r"clean +━+.* clean: \d+/10 ", line) for line in drawn)
    assert any("1 of 2 stages" in line for line in drawn)
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in seen(terminal=False)]
    assert lines[:2] == ["stage 1 of 2: clean", "12 documents in"]
    assert lines[2] == "clean: 10/10 (100%) shards, 1/s"
    assert re.fullmatch(r"stage 1 of 2: clean done in \d+ s", lines[3])
    assert len(lines) == 4
