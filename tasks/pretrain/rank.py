"""One rank of a training run: `python -m tasks.pretrain.rank --config FILE`, alone or under `torch.distributed.run`.

Launchers parse options by prefix, so everything but the config file's path is in that file. Rank 0, or the first
rank to fail, leaves `outcome.json` in the work folder; SIGUSR1 has it write its stacks (tasks.pretrain.launching.heartbeat). The
exit code is the stage's (0, 2, 75, or 1 for a defect).
"""

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from tasks.core.disk_full import no_space_left
from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, Interrupted, UserError
from tasks.core.logs import start_log
from tasks.core.parallel.processes import end_with_parent
from tasks.pretrain.launching import heartbeat
from tasks.pretrain.launching.launch import PARTIAL
from tasks.pretrain.launching.outcome import write_outcome


def main() -> int:
    """Train as the config file says; returns the exit code."""
    end_with_parent(signal.SIGKILL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="JSON file that tasks.pretrain.launching.launch wrote"
    )
    config: dict[str, Any] = json.loads(parser.parse_args().config.read_text())
    rank = os.environ.get("RANK", "0")
    first = rank == "0"
    heartbeat.start(Path(config["work"]), int(rank))
    start_log(logging.INFO if first else logging.ERROR)
    for noisy in ("torchao", "torch.utils._pytree", "DeepSpeed"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    code, outcome = _train(config)
    write_outcome(Path(config["work"]), rank, outcome, tells=first or code not in (0, EXIT_INTERRUPTED))
    return code


def _train(config: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    try:
        from transformers.utils import logging as transformers_logging

        from tasks.pretrain.loop import train
        from tasks.pretrain.params import PlannedParams

        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()  # it recommends the attention mask that would let documents see each other
        metrics, timings = train(PlannedParams.model_validate(config.pop("params")), config)
        return 0, {"status": "finished", "metrics": metrics, "timings": timings}
    except Interrupted:
        return EXIT_INTERRUPTED, {"status": "interrupted"}
    except UserError as error:
        return EXIT_USER_ERROR, {"status": "mistake", "message": str(error)}
    except Exception as error:
        from tasks.pretrain.checks.memory import out_of_memory, out_of_memory_message

        work = Path(config["work"])
        traceback.print_exc()
        if out_of_memory(error):
            return EXIT_USER_ERROR, {"status": "mistake", "message": out_of_memory_message(error, config)}
        if no_space_left(error, work):
            message = f"no space left on the disk while training. Free some (checkpoints are in {work}) and start again"
            shutil.rmtree(work / "checkpoints" / PARTIAL, ignore_errors=True)  # room for this message
            return EXIT_USER_ERROR, {"status": "mistake", "message": message}
        return 1, {"status": "failed", "message": repr(error)}


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # ranks that fail must not wait for each other in the process group's clean-up
