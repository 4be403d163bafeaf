"""After a SIGKILL: end what a dead process left marked as running, in Prefect and in MLflow. `python -m flows.orphans`."""

import logging
import sys
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.states import Crashed

from tasks.core.errors import EXIT_USER_ERROR, UserError
from tasks.core.parallel.processes import is_gone, process_identity
from tasks.core.tracking.store import open_store

WORKSPACE, OWNER = "textmill.workspace", "textmill.owner"
"""Labels of a flow run: the folder it works in, and its process (host, pid, start time)."""
log = logging.getLogger("textmill.flow")


def label_flow_run(root: Path, flow_run_id: str | None) -> None:
    """Write on a flow run which workspace it works in and which process it is; a server may serve many of both."""
    if flow_run_id is None:
        return
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(UUID(flow_run_id), {WORKSPACE: str(root), OWNER: process_identity()})
    except (PrefectException, httpx.HTTPError) as error:  # the server is away: work goes on without it
        log.warning("the flow run could not be labelled with its process: %s", error)


def end_orphans(root: Path) -> None:
    """Mark this workspace's flow runs that still say Running, and whose process on this host is gone, as Crashed."""
    unfinished = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
    try:
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=["textmill"])),
                flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=unfinished)),
            )
            for run in runs:
                if run.labels.get(WORKSPACE) == str(root) and is_gone(str(run.labels.get(OWNER))):
                    client.set_flow_run_state(run.id, Crashed(message="its process was killed"), force=True)
                    log.info("flow run %s was left running by a killed process: marked as crashed", run.name)
    except (PrefectException, httpx.HTTPError) as error:
        log.warning("Prefect did not tell which runs a killed process left running: %s", error)


if __name__ == "__main__":
    from flows.server import prefect_api

    here = Path.cwd()
    try:
        with prefect_api(here):
            end_orphans(here)
        open_store(here).end_orphaned_runs()
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
