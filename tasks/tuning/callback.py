"""What a trainer of TRL is told to do besides training: its curve, progress, and checkpoints that a killed run goes on from."""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tasks.core.errors import UserError
from tasks.core.progress import Progress
from tasks.model.curves import CurveWriter

SECONDS_BETWEEN_CHECKPOINTS = 20.0
COMPLETE_MARKER = "whole"
"""Name of the file that marks a checkpoint as completely written; the trainer itself leaves half ones after a kill."""

Row = dict[str, float | int | None]


class CurveAndCheckpointCallback(TrainerCallback):  # type: ignore[misc]
    """Writes the curve, shows progress, and has checkpoints written every 20 s and at the end.

    `row` makes a row of the curve of a step and what the trainer logs of it; `shown` is the column that progress shows.
    Checkpoints fall on logging steps: the trainer forgets a half-finished average of the loss.
    """

    def __init__(
        self,
        stage: str,
        curves: Path,
        work: Path,
        steps: int,
        columns: Sequence[str],
        row: Callable[[int, Mapping[str, float]], Row],
        shown: str = "loss",
    ) -> None:
        self._stage, self._path, self._kept, self._steps = stage, curves, work / "curves.csv", steps
        self._columns, self._row, self._shown = columns, row, shown
        self._curves: CurveWriter | None = None
        self._progress = Progress(stage, total=steps, unit="steps")
        self._saved = time.monotonic()
        self._last: dict[str, str] = {}
        self.first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first_step = state.global_step
        self._curves = CurveWriter(
            self._path, self._kept if self._kept.exists() else None, self.first_step, self._columns
        )
        self._progress.advance(self.first_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs or self._curves is None:
            return
        if not math.isfinite(logs["loss"]) or not math.isfinite(logs["grad_norm"]):
            raise UserError(
                f"{self._stage}: the loss is {logs['loss']} and the gradient's norm {logs['grad_norm']} at step "
                f"{state.global_step}: training diverged. Lower {self._stage}.learning_rate in params.yaml"
            )
        row = self._row(state.global_step, logs)
        self._last = {self._shown: f"{row[self._shown]:.3f}"}
        self._curves.write(row)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._progress.advance(1, **self._last)
        last = state.global_step == self._steps
        control.should_log |= last
        due = time.monotonic() - self._saved >= SECONDS_BETWEEN_CHECKPOINTS
        control.should_save = last or (due and control.should_log)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        beside = self._kept.with_suffix(".partial")
        shutil.copyfile(self._path, beside)
        beside.replace(self._kept)
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE_MARKER).touch()
        self._saved = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._curves is not None:
            self._curves.close()
        self._progress.__exit__(None, None, None)


def last_complete_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint that was written to its end; half ones are deleted."""
    whole: dict[int, Path] = {}
    for folder in (work / "checkpoints").glob("checkpoint-*"):
        if (folder / COMPLETE_MARKER).exists():
            whole[int(folder.name.rpartition("-")[2])] = folder
        else:
            shutil.rmtree(folder)
    return whole[max(whole)] if whole else None
