"""What a person sees of a run: bars in a terminal, plain lines in a file or a pipe."""

import logging
import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from flows.progress.stage_log import PROGRESS_LOG
from tasks.core.progress import ProgressState, duration

FINISHED = "Finished in state"


class Terminal(logging.Handler):
    """Context: shows the log of the flow and its stages on standard error, in place of Prefect's console handler.

    Prefect's own lines on states and addresses of single runs are left out; its warnings are shown without traceback
    (what a stage died of, it has said itself).
    """

    def __init__(self, bars: bool | None = None) -> None:
        """`bars`: draw them; default where standard error is a terminal."""
        super().__init__(logging.INFO)
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
        self._bars = self._progress() if (sys.stderr.isatty() if bars is None else bars) else None
        self._rows: dict[str, TaskID] = {}
        self._whole: TaskID | None = None
        self._before: list[tuple[logging.Logger, list[logging.Handler]]] = []

    def _progress(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[said]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )

    def __enter__(self) -> Self:
        from prefect.logging.configuration import setup_logging
        from prefect.logging.handlers import PrefectConsoleHandler

        setup_logging()
        for logger in (logging.getLogger(), logging.getLogger("prefect")):
            self._before.append((logger, list(logger.handlers)))
            logger.handlers = [h for h in logger.handlers if not isinstance(h, PrefectConsoleHandler)]
            if logger.parent is None or not logger.propagate:
                logger.addHandler(self)
        logging.getLogger("textmill").setLevel(logging.INFO)
        PROGRESS_LOG.addHandler(self)
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()
        PROGRESS_LOG.removeHandler(self)
        for logger, handlers in self._before:
            logger.handlers = handlers

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, or draw what it says of a stage's progress."""
        try:
            self._show(record, getattr(record, "textmill", None) or {})
        except Exception:  # as every handler: what cannot be shown stops nothing
            self.handleError(record)

    def _show(self, record: logging.LogRecord, said: dict[str, Any]) -> None:
        if self._bars is not None and said:
            self._draw(self._bars, said)
        if said.get("kind") in ("news", "gone") or (said.get("kind") == "count" and self._bars is not None):
            return
        message = record.getMessage()
        if message.startswith(FINISHED) or ("/prefect/" in record.pathname and record.levelno < logging.WARNING):
            return
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else ""
        self._console.print(Text.assemble((f"{clock} ", "dim"), (message, "bold" if _heads(said) else style)))

    def _draw(self, bars: Progress, said: dict[str, Any]) -> None:
        stage, kind = said["stage"], said["kind"]
        if kind == "begin" and stage not in self._rows:
            self._rows[stage] = bars.add_task(stage, total=None, said="")
        elif kind in ("end", "gone") and stage in self._rows:
            bars.remove_task(self._rows.pop(stage))
        elif kind == "news" and stage in self._rows:
            state: ProgressState = said["state"]
            bars.update(self._rows[stage], completed=state.done, total=state.total, said=state.text())
        if "total" in said:
            if self._whole is None:
                self._whole = bars.add_task("", total=said["total"], said="")
            left = f"about {duration(said['left_s'])} left" if (said["left_s"] or 0) >= 1 else ""
            name = f"{said['done']} of {said['total']} stages"
            bars.update(self._whole, completed=said["done"], description=name, said=left)


def _heads(said: dict[str, Any]) -> bool:
    return said.get("kind") in ("begin", "end")
