"""Running one stage: parameters and paths in, outputs published and the run recorded, or a clear message and an exit code."""

import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core import interruption
from tasks.core.disk_full import no_space_left
from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, Interrupted, UserError
from tasks.core.logs import start_log
from tasks.core.parallel.processes import end_with_dvc
from tasks.core.paths import Inputs, Metrics, Outputs

Run = Callable[[Any, Inputs, Outputs], Metrics]
log = logging.getLogger("textmill")


def stage_main(run: Run) -> None:
    """Entry point of `python -m tasks.<stage>`; does not return.

    Exit codes: 0 finished; 2 a user's mistake, explained in one message; 75 interrupted, nothing finished, start
    again to continue; 1 a defect, with its traceback. In all but the first, `data/<stage>/` and its metrics are those of
    the last good run (DVC, which removed them before it started this, has them in its cache), or absent.
    """
    stage = run.__module__.split(".")[1]  # tasks.<stage>.stage
    start_log(logging.WARNING)
    for own in ("tasks", "textmill", "progress"):
        logging.getLogger(own).setLevel(logging.INFO)
    for chatty in ("torchao", "torch.utils._pytree"):  # they warn of GPU kernels that a machine without one lacks
        logging.getLogger(chatty).setLevel(logging.ERROR)
    # DeepSpeed, which transformers imports, takes the choice of the CPU for want of a GPU.
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
    interruption.install_handlers()
    if "DVC_STAGE" in os.environ:  # `dvc` was killed: what it started must not write beside its successor
        end_with_dvc(signal.SIGTERM)
    try:
        code = run_stage(Path.cwd(), stage, run)
    finally:
        interruption.ignore_further_signals()
    sys.exit(code)


def run_stage(root: Path, stage: str, run: Run) -> int:
    """Run `stage` of the project in `root`; returns the exit code."""
    from tasks.core import graph, paths
    from tasks.core.input_hashes import require_intact
    from tasks.core.parallel.engine import kept_workers
    from tasks.core.params import load_params, select_values
    from tasks.core.publish import complete_publishing, publish, require_no_symlinks, staging_folder
    from tasks.core.restore import check_out_last_output, restore
    from tasks.core.tracking.stage_record import NOT_STARTED, NotStarted, StageRecord

    staging: Path | None = None
    tracked: StageRecord | NotStarted = NOT_STARTED
    try:
        if len(sys.argv) > 1:
            raise UserError(f"tasks.{stage} takes no arguments: its parameters are the block {stage} of params.yaml")
        require_no_symlinks(root, stage)
        complete_publishing(root)
        node = graph.load_stage(root, stage)
        blocks = load_params(root, list(graph.load_graph(root)))
        params = blocks[stage]
        graph.require_inputs(root, node)
        dependencies = graph.dependency_hashes(root, stage)
        tracked = running = StageRecord(root, node, dependencies)
        last = graph.locked_hashes(root, stage)[1] if os.environ.get(paths.REFRESH_VARIABLE) else {}
        with paths.work_folder(root, stage, [params.work_identity(), dependencies, *last.items()]) as work:
            staging = staging_folder(root, stage)
            outputs = Outputs(staging, work, check_out_last_output(root, stage, work / "before") if last else None)
            running.follow(staging / "curves.csv")
            with interruption.interruptible(), kept_workers():
                require_intact(root, node)
                started = time.monotonic()
                metrics = run(params, Inputs(node.inputs, stage, select_values(blocks, node.settings)), outputs)
            outputs.timings["seconds"] = time.monotonic() - started
            publish(root, stage, outputs, metrics)
        running.finish(metrics, outputs.timings)
        log.info("%s: done in %.1f s", stage, outputs.timings["seconds"])
        return 0
    except UserError as error:
        log.error("%s", error)
        paths.leave_user_error(root, stage, str(error))
        tracked.fail("FAILED", str(error))
        return EXIT_USER_ERROR
    except (Interrupted, KeyboardInterrupt):
        interruption.ignore_further_signals()
        log.warning("%s: interrupted, nothing was finished. Start again to continue.", stage)
        tracked.fail("KILLED", "interrupted")
        return EXIT_INTERRUPTED
    except ImportError as error:
        log.error("%s: %s. Install what the project needs: make install", stage, error)
        tracked.fail("FAILED", repr(error))
        return EXIT_USER_ERROR
    except Exception as error:
        if not no_space_left(error, root / "data"):
            tracked.fail("FAILED", repr(error))
            raise
        place = getattr(error, "filename", None) or staging
        log.error(
            "%s: no space left on the disk while writing %s. Free some and start again. (%r)", stage, place, error
        )
        tracked.fail("FAILED", "no space left on the disk")
        return EXIT_USER_ERROR
    except BaseException as error:
        tracked.fail("FAILED", repr(error))
        raise
    finally:
        complete_publishing(root)  # what was interrupted between the two steps of publishing
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        if not (root / "data" / stage).exists():
            restore(root, [stage])
