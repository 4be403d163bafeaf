"""`make upgrade`: after new code that changes no result, keep what is there in place of making it anew.

DVC compares the code of a stage with what dvc.lock has of it, and runs a stage whose code differs: a crawl, too. CHANGELOG.md
says of which stages a version changes no result. Theirs is entered in dvc.lock as made by the code at hand, provided
that nothing else of them differs.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from flows.run_lock import repair_dvc_lock, require_free_workspace
from tasks.core import graph
from tasks.core.errors import EXIT_USER_ERROR, UserError


def upgrade(root: Path, stages: list[str], sure: bool) -> list[str]:
    """Enter the outputs of `stages` (none: of all) in dvc.lock as those of the code at hand; returns which were entered.

    Left out, with the reason printed: a stage that never ran, whose inputs, parameters, command or outputs differ from
    what dvc.lock says, or whose outputs are not there.

    Raises:
        UserError: an unknown stage, a run under way, or nobody at the terminal to be asked.
    """
    require_free_workspace(root)
    repair_dvc_lock(root)
    for stage in stages:
        graph.load_stage(root, stage)
    with graph.open_repo(root) as repo:
        status = {name.rpartition(":")[2]: found for name, found in repo.status().items()}
        kept = []
        for stage in (name for name in graph.load_graph(root) if name in status and (not stages or name in stages)):
            if reason := _differs(root, stage, status[stage]):
                print(f"{stage}: will run: {reason}")
            else:
                kept.append(stage)
        if not kept:
            print("Nothing to keep: no stage differs in its code alone.")
            return []
        print(f"{', '.join(kept)}: only the code differs from that which made {'it' if len(kept) == 1 else 'them'}.")
        if not (sure or _agreed()):
            return []
        for stage in kept:
            repo.commit(stage, force=True)
    print(f"Kept in dvc.lock: {', '.join(kept)}. See what is left to run: make run")
    return kept


def _differs(root: Path, stage: str, found: list[Any]) -> str | None:
    """What differs besides the code; None where nothing does."""
    if not graph.locked_hashes(root, stage)[1]:
        return "it has not run yet"
    for change in found:
        if change == "changed command":
            return "its command differs"
        for kind, items in change.items() if isinstance(change, dict) else ():
            for path, how in items.items():
                if isinstance(how, dict):
                    return f"{path}: {', '.join(how)} changed"
                if kind == "changed outs" or not path.startswith("tasks/"):
                    return f"{path} is {how}" + (
                        "; bring it back first: dvc checkout" if kind == "changed outs" and how == "deleted" else ""
                    )
    return None


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UserError(
            "Nobody can be asked here. Say that CHANGELOG.md names no change of these results: make upgrade SURE=yes"
        )
    try:
        answer = input("Does CHANGELOG.md say that their results do not change? Keep them? [y/N] ")
    except (EOFError, KeyboardInterrupt):  # Ctrl-D and Ctrl-C are a no
        print()
        return False
    return answer.strip().lower().startswith("y")


def main() -> None:
    """The command line; does not return. Exit codes: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m flows.upgrade", description="Keep what other code has made.")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="only these; none: all whose code alone differs")
    parser.add_argument("--sure", action="store_true", help="do not ask")
    options = parser.parse_args()
    try:
        upgrade(Path.cwd(), options.stages, options.sure)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
