"""`make release`: ask the gate, and make a version of the model that the last run came to.

python -m flows.release                     ask the gate; where it lets the model pass, register it as `candidate`
python -m flows.release list                the versions
python -m flows.release promote [VERSION]   make the candidate (or a version) the champion
python -m flows.release rollback            make the champion before it the champion again
python -m flows.release push OWNER/NAME     send the champion (or --version) to a Hugging Face hub
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.tracking.registry import CANDIDATE, CHAMPION, Registry
from tasks.core.tracking.store import open_store
from tasks.model.released import release_folder

if TYPE_CHECKING:
    from flows.release.propose import Proposal

EXIT_REFUSED = 1
"""Exit code where the gate refuses: nothing went wrong, and nothing was released."""


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and do it; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="the versions")
    commands.add_parser("promote", help="make it the champion").add_argument("version", nargs="?", default=CANDIDATE)
    commands.add_parser("rollback", help="make the champion before it the champion again")
    pushed = commands.add_parser("push", help="send it to a Hugging Face hub")
    pushed.add_argument("repository", metavar="OWNER/NAME")
    pushed.add_argument("--version", default=CHAMPION, help="a number, latest, candidate or champion")
    pushed.add_argument("--public", action="store_true", help="where the repository is made: for everybody to see")
    options = parser.parse_args(arguments)
    for chatty in ("torchao", "torch.utils._pytree"):  # they warn of GPU kernels that a machine without one lacks
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        return _run(options, Path.cwd(), Console(highlight=False, soft_wrap=True))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR


def _run(options: argparse.Namespace, root: Path, console: Console) -> int:
    store = open_store(root)
    registry = Registry(store)
    if options.command is None:
        from flows.release.propose import propose  # it loads PyTorch, which no other command needs

        return _show(propose(root, store), root, console)
    if options.command == "list":
        table = Table("version", "is", "released", "commit", box=None, pad_edge=False)
        for version in registry.versions():
            commit = version.tags.get("textmill.commit", "")[:9]
            table.add_row(str(version.number), ", ".join(version.aliases), version.date, commit)
        console.print(table if table.rows else "no version yet: make release")
    elif options.command == "promote":
        version = registry.resolve(options.version)
        registry.promote(version)
        console.print(f"{registry.name} version {version.number}, of {version.date}, is the champion.")
    elif options.command == "rollback":
        was, now = registry.rollback()
        console.print(
            f"{registry.name} version {now.number}, of {now.date}, is the champion again; it was {was.number}."
        )
    else:
        from flows.release.hub import push

        version = registry.resolve(options.version)
        console.print(push(release_folder(root, str(version.number)), options.repository, not options.public))
    return 0


def _show(proposal: "Proposal", root: Path, console: Console) -> int:
    for check in proposal.checks:
        mark = "[green]yes[/]" if check.passed else "[bold red]no [/]"
        console.print(f"{mark}  ", end="")
        console.print(f"{check.rule}: {check.found}", markup=False)
    failed = [check.rule for check in proposal.checks if not check.passed]
    if proposal.version is None:
        console.print(
            f"\nRefused by {len(failed)} of {len(proposal.checks)} rules. The rules: release.yaml", markup=False
        )
        return EXIT_REFUSED
    folder = proposal.folder.relative_to(root) if proposal.folder else ""
    console.print(f"\n{proposal.version.title}: {folder}/README.md", markup=False)
    console.print("Next  python -m flows.release promote · make serve MODEL=candidate", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
