"""The flow: one Prefect task for each stage of dvc.yaml, in the order of its edges."""

import shlex
import threading
import time
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from flows import orphans, param_overrides, run_plan
from flows.cancel import watch_for_cancel
from flows.mlflow_record import PipelineRecord
from flows.progress.stage_log import StageLog
from flows.progress.time_left import RunProgress
from flows.run_lock import hold_workspace, stop_on_signal
from flows.supervision.dvc_stage import (
    StageFailed,
    StageStopped,
    StageTimedOut,
    exclusive_turn,
    reproduce,
    stage_environment,
)
from flows.supervision.supervised import Start, forked_dvc, start_dvc
from tasks.core import graph
from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.paths import REFRESH_VARIABLE, take_user_error
from tasks.core.restore import recover, restore
from tasks.core.secret_params import has_secret

BAD_INPUT = "BadInput"
"""Name of the failed state of a stage or a flow run that a user's mistake has stopped."""
TIMED_OUT = "TimedOut"


def is_worth_another_try(_: object, __: object, state: State[Any]) -> bool:
    """Prefect's question after a failed try: against the network's mood one may help, not against a mistake or a timeout."""
    return state.name not in (BAD_INPUT, TIMED_OUT)


DONE = {"Completed": "done", "Restored": "restored from DVC's cache", "Cached": "found up to date"}


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(
    stage: str,
    root: Path,
    stop: threading.Event,
    force: bool,
    fresh: bool,
    environment: dict[str, str],
    run_progress: RunProgress,
    start: Start = start_dvc,
) -> State[str]:
    """Bring one stage up to date. The state is named Cached, Restored (from DVC's run cache) or Completed.

    A defect or the network's mood raises, so that Prefect tries again as often as `meta:` says; a user's mistake,
    a wish to stop or a timeout returns a final state, since a second try cannot help.
    """
    if fresh:
        return Completed(name="Cached", message="nothing that it depends on changed", data="Cached")
    log = StageLog(get_run_logger(), stage, run_progress)
    meta = graph.load_stage(root, stage).meta
    try:
        if stop.is_set():
            raise StageStopped(stage)
        with exclusive_turn(stage, bool(meta.get("exclusive")), stop):
            limits = meta.get("timeout_s"), meta.get("grace_s")
            with log:
                outcome = reproduce(stage, root, log.line, stop, force, *limits, environment, start, log.report)
            log.end(DONE[outcome])
    except StageStopped:
        return Cancelled(message=f"{stage} was stopped; the next run continues it")
    except StageTimedOut as error:
        return Failed(name=TIMED_OUT, message=str(error))
    except StageFailed as error:
        if error.code != EXIT_USER_ERROR:
            raise
        return Failed(name=BAD_INPUT, message=take_user_error(root, stage) or str(error))
    return Completed(name=outcome, message=f"dvc repro: {outcome.lower()}", data=outcome)


def _run_name() -> str:
    """What a person looks for in a list of runs: what was asked for, and when."""
    given = flow_run.get_parameters()
    asked = [f"{key}={'***' if has_secret(value) else value}" for key, value in (given.get("params") or {}).items()]
    if given.get("from_stage"):
        asked.append(f"from {given['from_stage']}")
    asked += given.get("stages") or []
    asked += [word for word in ("force", "refresh") if given.get(word)]
    return f"{', '.join(asked)[:120] or 'all stages'} {time.strftime('%Y-%m-%d %H:%M:%S')}"


def _command() -> str:
    """What one types to run the same, however this run was started."""
    given = flow_run.get_parameters()
    options = [f"--param {shlex.quote(f'{key}={value}')}" for key, value in (given.get("params") or {}).items()]
    options += [f"--from-stage {given['from_stage']}"] if given.get("from_stage") else []
    options += [f"--stages {' '.join(given['stages'])}"] if given.get("stages") else []
    options += ["--force"] if given.get("force") else []
    return " ".join(["python -m flows.pipeline", *options])


@flow(name="textmill", flow_run_name=_run_name, persist_result=False)
def pipeline(
    stages: list[str] | None = None,
    force: bool = False,
    from_stage: str | None = None,
    params: dict[str, Any] | None = None,
    root: str | None = None,
    refresh: bool = False,
) -> State[Any]:
    """Bring the pipeline up to date: as `dvc repro`, with independent stages at the same time.

    Args:
        stages: only these and what they need; default all.
        force: run the selected stages even if nothing changed.
        from_stage: only this stage and what depends on it.
        params: dotted keys of params.yaml to set first, e.g. {"dedup.threshold": 0.7}; the file is edited.
        root: the project's folder; default the working directory.
        refresh: read the sources again; what is unchanged there stays as it is, and what depends on it is not run.
    """
    log = get_run_logger()
    folder = Path(root or ".").resolve()
    stop = threading.Event()
    name = flow_run.get_name() or "flow"
    try:
        with hold_workspace(folder, name), stop_on_signal(stop), watch_for_cancel(flow_run.get_id(), stop):
            orphans.label_flow_run(folder, flow_run.get_id())
            orphans.end_orphans(folder)
            recover(folder)
            run_plan.check_project(folder, params)
            param_overrides.write_overrides(folder / "params.yaml", params or {})
            return _walk(folder, run_plan.select_stages(folder, stages, from_stage), force, refresh, stop)
    except UserError as error:
        log.error("%s", error)
        return Failed(name=BAD_INPUT, message=str(error))


def _walk(root: Path, stages: list[str], force: bool, refresh: bool, stop: threading.Event) -> State[Any]:
    outdated = set(stages) if force else run_plan.outdated(root, stages)
    reading = [stage for stage in stages if refresh and not graph.load_stage(root, stage).upstream]
    run_plan.check_paths(
        root, run_plan.check_project(root), [stage for stage in stages if stage in outdated and stage not in reading]
    )
    run_progress = RunProgress(root, stages, outdated.union(reading))
    name, flow_run_id = flow_run.get_name() or "flow", flow_run.get_id()
    with (
        forked_dvc(root, stage_environment({})) as start,
        PipelineRecord(root, name, _command(), flow_run_id) as record,
    ):
        futures: dict[str, PrefectFuture[Any]] = {}
        for stage in [*reading, *(stage for stage in stages if stage not in reading)]:
            if reading and len(futures) == len(reading):  # what is left to do depends on what they found
                for future in futures.values():
                    future.wait()
                outdated = outdated if force else run_plan.outdated(root, stages)
                run_progress.expect(outdated.difference(reading))
            node = graph.load_stage(root, stage)
            configured: Any = run_stage.with_options(
                name=stage,
                retries=int(node.meta.get("retries", 0)),
                retry_delay_seconds=float(node.meta.get("retry_delay_s", 10)),
                retry_condition_fn=is_worth_another_try,
            )
            futures[stage] = configured.submit(
                stage,
                root,
                stop,
                force or stage in reading,
                fresh=stage not in outdated and stage not in reading,
                environment=record.environment() | ({REFRESH_VARIABLE: "1"} if stage in reading else {}),
                run_progress=run_progress,
                start=start,
                wait_for=[futures[upstream] for upstream in node.upstream if upstream in futures],
            )
        for future in futures.values():
            future.wait()
        states = {stage: future.state for stage, future in futures.items()}
        restore(root, [stage for stage, state in states.items() if not state.is_completed()])
        stopped = [stage for stage, state in states.items() if state.is_cancelled()]
        if stop.is_set() or stopped:
            record.end("KILLED")
            return Cancelled(message=f"Stopped: {', '.join(stopped) or 'before any stage'}")
        ran, kept, missing = _sort(states)
        if missing:
            record.end("FAILED")
            failed = [state for state in states.values() if state.is_failed()]
            mistake = bool(failed) and all(state.name == BAD_INPUT for state in failed)
            return Failed(name=BAD_INPUT if mistake else None, message="\n".join(missing))
        record.cached(kept)
        return Completed(message=f"{len(ran)} of {len(stages)} stages ran" + (f": {', '.join(ran)}" if ran else ""))


def _sort(states: dict[str, State[Any]]) -> tuple[list[str], list[str], list[str]]:
    """The stages that ran, those whose outputs an earlier run made, and why the rest is not up to date."""
    ran = [stage for stage, state in states.items() if state.name == "Completed"]
    kept = [stage for stage, state in states.items() if state.name in ("Cached", "Restored")]
    failed = [str(state.message) for state in states.values() if state.is_failed() or state.is_crashed()]
    never = [stage for stage in states if stage not in (*ran, *kept)]
    return ran, kept, failed or [f"not run: {stage}" for stage in never]
