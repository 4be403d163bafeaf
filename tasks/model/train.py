"""One rank of a training run: `python -m tasks.model.train --config FILE`, alone or under `torch.distributed.run`.

Launchers parse options by prefix, so everything but the config file's path is in that file. Rank 0 leaves
`outcome.json` in the work folder; the exit code is the stage's (0, 2, 75, or 1 for a defect).
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

from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, Interrupted, UserError
from tasks.core.paths import write_json
from tasks.core.processes import end_with_parent
from tasks.model.launch import PARTIAL

FULL_DISK_BYTES = 1 << 20


def main() -> int:
    """Train as the config file says; returns the exit code."""
    end_with_parent(signal.SIGKILL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file that tasks.model.launch wrote")
    config: dict[str, Any] = json.loads(parser.parse_args().config.read_text())
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(
        format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S", level=logging.INFO if first else logging.ERROR
    )
    for noisy in ("torchao", "torch.utils._pytree", "DeepSpeed"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    code, outcome = _train(config)
    if first or code not in (0, EXIT_INTERRUPTED):
        write_json(Path(config["work"]) / "outcome.json", outcome)
    return code


def _train(config: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    try:
        from transformers.utils import logging as transformers_logging

        from tasks.model.loop import train
        from tasks.pretrain import PretrainParams

        transformers_logging.disable_progress_bar()
        metrics, timings = train(PretrainParams.model_validate(config.pop("params")), config)
        return 0, {"status": "finished", "metrics": metrics, "timings": timings}
    except Interrupted:
        return EXIT_INTERRUPTED, {"status": "interrupted"}
    except UserError as error:
        return EXIT_USER_ERROR, {"status": "mistake", "message": str(error)}
    except Exception as error:
        work = Path(config["work"])
        traceback.print_exc()
        # torch, safetensors and the system each say it in another way, one of them not at all
        if "No space left" in str(error) or shutil.disk_usage(work).free < FULL_DISK_BYTES:
            message = f"no space left on the disk while training. Free some (checkpoints are in {work}) and start again"
            shutil.rmtree(work / "checkpoints" / PARTIAL, ignore_errors=True)  # room for this message
            return EXIT_USER_ERROR, {"status": "mistake", "message": message}
        return 1, {"status": "failed", "message": repr(error)}


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # ranks that fail must not wait for each other in the process group's clean-up
