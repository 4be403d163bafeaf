"""The launcher of a node other than the first: `python -m tasks.pretrain.launching.node --config FILE --node N`, which node 0 starts.

Under Kubernetes nobody starts it but the Job: `python -m tasks.pretrain.launching.node --wait` waits for the run that pod 0 begins.
Either way it checks that it sees the same checkout and data, starts its ranks, and ends with node 0. Exit codes: 0 its ranks
finished; 2 a user's mistake; 75 node 0 ended before it, or a signal arrived; else what its ranks ended with.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from tasks.core.logs import start_log
from tasks.core.paths import STATE
from tasks.pretrain.launching import heartbeat
from tasks.pretrain.launching.launch import PEERS_TIMEOUT_S, POLL_S, start_ranks
from tasks.pretrain.launching.node_state import CALL, NodeState
from tasks.pretrain.launching.outcome import write_outcome
from tasks.pretrain.launching.same_checkout import fingerprint, require_same

log = logging.getLogger(__name__)


def main() -> int:
    """Start this node's ranks and follow them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="file that node 0 wrote, on a file system that all nodes share")
    parser.add_argument("--node", type=int, help="this node's number, from 1 up")
    parser.add_argument(
        "--wait", action="store_true", help="wait for the run; JOB_COMPLETION_INDEX is this node's number"
    )
    options = parser.parse_args()
    start_log(logging.INFO)
    closed = threading.Event()
    if options.wait:
        number = int(os.environ["JOB_COMPLETION_INDEX"])
        path = _wait_for_run(number)
    else:
        number, path = options.node, options.config
        threading.Thread(target=_wait_for_end_of_input, args=(closed,), daemon=True).start()
    if not path.exists():
        log.error(
            "node %d: %s: no such file here. Every machine needs the same folder under the same path: put the project on a "
            "file system that all share",
            *(number, path),
        )
        return EXIT_USER_ERROR
    config: dict[str, Any] = json.loads(path.read_text())
    work, host, first = Path(config["work"]), config["nodes"][number][0], sum(n for _, n in config["nodes"][:number])
    state = NodeState(work, config["run"], number, host)
    try:
        require_same(fingerprint(config), config["fingerprint"], f"node {number} ({host})")
    except UserError as error:
        log.error("%s", error)
        write_outcome(work, str(first), {"status": "mistake", "message": str(error)})
        state.end(EXIT_USER_ERROR)
        return EXIT_USER_ERROR
    for name, value in config["environment"].items():
        os.environ.setdefault(name, value)
    code = _follow(
        start_ranks(path, config, number), state, closed, range(first, first + config["nodes"][number][1]), work
    )
    state.end(code)
    return code


def _follow(
    process: "subprocess.Popen[bytes]", state: NodeState, closed: threading.Event, ranks: range, work: Path
) -> int:
    """Wait for the ranks here; end them when node 0 has ended or is lost."""

    def pass_on(number: int, _: FrameType | None) -> None:
        process.send_signal(number)  # they agree with the others on the step to stop at

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    dumped = False
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(POLL_S)
        state.beat()
        if not dumped and state.asked_for_stacks():
            heartbeat.write_stacks(work, ranks)
            dumped = True
        if closed.is_set() or state.ended(0) is not None or state.gone(0):
            log.warning("node 0 has ended")
            with suppress(subprocess.TimeoutExpired):
                process.wait(PEERS_TIMEOUT_S if state.ended(0) == 0 else POLL_S)
            process.kill()  # its ranks end with it
            return EXIT_INTERRUPTED if process.wait() else 0


def _wait_for_end_of_input(closed: threading.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    closed.set()


def _wait_for_run(number: int) -> Path:
    """The config file of the run that node 0 of this project begins; waits until that node is seen alive."""
    call, state = Path.cwd() / STATE / CALL, None
    log.info("node %d waits for node 0 to begin", number)
    while True:
        with suppress(OSError, ValueError, KeyError):  # not there yet, or just being replaced
            path = Path(json.loads(call.read_text())["config"])
            config = json.loads(path.read_text())
            if state is None or state.run != config["run"]:  # what an earlier run left is never written again
                state, seen = NodeState(Path(config["work"]), config["run"], number, ""), None
            beats = state.beats_of(0)
            if seen is not None and beats != seen and state.ended(0) is None:
                return path
            seen = beats
        time.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main())
