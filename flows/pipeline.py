"""`make run`: the command line of the flow. What needs no Prefect is done before it is imported. `python -m flows.pipeline --help`."""

import argparse
import importlib
import logging
import sys
from pathlib import Path

from tasks.core.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError, missing_package


def main(arguments: list[str] | None = None) -> None:
    """Run the flow over the graph; does not return.

    Exit codes: 0 up to date; 2 a user's mistake; 75 stopped, start again to continue; 1 a stage failed.
    """
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Bring the pipeline up to date.")
    parser.add_argument("--stages", nargs="+", metavar="STAGE", help="only these stages and what they need")
    parser.add_argument("--from-stage", metavar="STAGE", help="only this stage and what depends on it")
    parser.add_argument("--force", action="store_true", help="run the selected stages even if nothing changed")
    parser.add_argument("--refresh", action="store_true", help="read the sources again and run what a change calls for")
    parser.add_argument(
        "--param", action="append", default=[], metavar="KEY=VALUE", help="set a key of params.yaml first"
    )
    options = parser.parse_args(arguments)
    logging.getLogger("dvc").setLevel(logging.ERROR)
    logging.getLogger("dvc.progress").setLevel(logging.CRITICAL)  # a bar a file, for an instant each
    try:
        sys.exit(_run(Path.cwd(), options))
    except UserError as error:
        sys.exit(_complain(str(error)))
    except ImportError as error:
        sys.exit(_complain(missing_package(error)))


def _complain(message: str) -> int:
    print(message, file=sys.stderr)
    return EXIT_USER_ERROR


def _run(root: Path, options: argparse.Namespace) -> int:
    from rich.console import Console

    from flows import local_report, run_plan, summary
    from flows.param_overrides import parse_override
    from flows.run_lock import require_free_workspace
    from tasks.core.restore import recover

    with Console(stderr=True).status("Looking at parameters and at what has changed"):  # in a terminal only
        recover(root)
        overrides = dict(parse_override(text) for text in options.param)
        params = run_plan.check_project(root, overrides)
        require_free_workspace(root)  # DVC would only complain of its own locks
        stages = run_plan.select_stages(root, options.stages, options.from_stage)
        outdated = run_plan.outdated(root, stages)
    if not (overrides or options.force or options.refresh or outdated):
        print(f"Nothing changed since the last run: all {len(stages)} stages are up to date, nothing to do.\n")
        summary.show_summary(root, outdated if len(stages) == len(run_plan.select_stages(root, None, None)) else None)
        return 0
    changed = set(stages) if options.force else outdated | {key.partition(".")[0] for key in overrides}
    if not options.refresh:  # what is out of reach tonight is no mistake then
        run_plan.check_paths(root, params, [stage for stage in stages if stage in changed])
    from flows.server import prefect_api

    print(_plan(stages, outdated if not options.force else set(stages)))
    print("Starting Prefect ...", flush=True)
    with prefect_api(root, meanwhile=lambda: importlib.import_module("flows.flow")) as ui:
        print(f"Prefect: {ui}", flush=True)
        from prefect.logging.handlers import APILogHandler

        from flows.flow import BAD_INPUT, pipeline
        from flows.progress.terminal import Terminal

        with Terminal():
            state = pipeline(
                stages=options.stages,
                force=options.force,
                from_stage=options.from_stage,
                params=overrides,
                refresh=options.refresh,
                return_state=True,
            )
        APILogHandler().flush()  # while the server is still there
        if state.is_cancelled():
            print(f"{state.message}. Nothing is lost: start again to continue.", file=sys.stderr)
            return EXIT_INTERRUPTED
        if not state.is_completed():
            mistake = state.name == BAD_INPUT
            print(f"\n{state.message}" if mistake else f"\nThe run failed. {state.message}", file=sys.stderr)
            return EXIT_USER_ERROR if mistake else 1
    print(f"\n{state.message}\n")
    summary.show_summary(root)
    if (root / local_report.PAGE).exists():
        local_report.write_local_report(root)
    return 0


def _plan(stages: list[str], outdated: set[str]) -> str:
    """What a run is going to do, as far as is known before its overrides are written."""
    to_run = [stage for stage in stages if stage in outdated]
    fresh = f"{len(stages) - len(to_run)} up to date, " if len(to_run) < len(stages) else ""
    return f"{len(stages)} stages: {fresh}{len(to_run)} to run" + (f" ({', '.join(to_run)})" if to_run else "")


if __name__ == "__main__":
    main()
