"""How a training run ended: what each rank leaves in the work folder, and what is made of it."""

import json
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.errors import Interrupted, UserError
from tasks.core.paths import write_json
from tasks.pretrain.launching.nodes import Node

LOST_PEER = re.compile(r"clos|reset|abort|peer|pipe|timed? ?out|refused|remote process|socket", re.IGNORECASE)
"""What a rank says that fails because another one is gone."""


def write_outcome(work: Path, rank: str, outcome: dict[str, Any], tells: bool = True) -> None:
    """Write `outcome-<rank>.json`: a rank that was killed has none.

    And `outcome.json` if this rank `tells`, unless another has: the first to fail tells the cause, the others miss their peer.
    """
    write_json(work / f"outcome-{rank}.json", outcome)
    if tells and not (work / "outcome.json").exists():
        beside = work / f"outcome.json.{rank}"
        write_json(beside, outcome)
        beside.replace(work / "outcome.json")


def read_outcome(work: Path, module: str, code: int, nodes: Sequence[Node], lost: str | None) -> dict[str, Any]:
    """What rank 0 reported, if all ranks finished; `code`: of this machine's, `lost`: what is known of a node that was lost.

    Raises:
        UserError: a rank reported a user's mistake, or ended without a word.
        Interrupted: the ranks were asked to stop.
        RuntimeError: a rank failed.
    """
    path = work / "outcome.json"
    outcome: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    total = sum(node.ranks for node in nodes)
    silent = [rank for rank in range(total) if not (work / f"outcome-{rank}.json").exists()]
    match outcome.get("status"):
        case "finished" if code == 0:
            return outcome
        case "interrupted":
            raise Interrupted("the ranks were stopped")
        case "mistake":
            raise UserError(outcome["message"])
        case "failed" if not (silent and LOST_PEER.search(outcome["message"])):
            raise RuntimeError(f"{module}: {outcome['message']}")
    who = lost or f"a training process ended with {describe(code)}"
    if total > 1 and silent:
        dead = ", ".join(f"rank {rank} on {host_of(nodes, rank)}" for rank in silent)
        who = f"{lost}: {dead} left no message" if lost else f"{dead} ended and left no message"
    else:
        who += " and left no message"
    raise UserError(
        f"{module}: {who}. If it was killed for memory, lower micro_batch_rows or the model's size, or use fewer ranks. "
        "Start again to continue from its last checkpoint"
    )


def host_of(nodes: Sequence[Node], rank: int) -> str:
    """The name of the machine that `rank` runs on: ranks are counted through the nodes in their order."""
    for node in nodes:
        if rank < node.ranks:
            return node.host
        rank -= node.ranks
    raise AssertionError(f"no node has rank {rank}")


def describe(code: int) -> str:
    """An exit code in words; negative ones are signals."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
