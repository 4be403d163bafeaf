"""After a SIGKILL: end what a dead process left marked as running, in Prefect and in MLflow. `python -m flows.sweep`."""

import logging
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from flows.workspace import hold
from tasks.core.errors import UserError
from tasks.core.store import Store

log = logging.getLogger("textmill.flow")


def end_orphans(root: Path) -> None:
    """Mark this workspace's flow runs that still say Running as Crashed, if no flow run holds the workspace."""
    try:
        with hold(root, "sweep"), get_client(sync_client=True) as client:
            runs = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=["textmill"])),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(
                        type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
                    )
                ),
            )
            for run in runs:
                if run.parameters.get("root") in (None, str(root)):
                    client.set_flow_run_state(run.id, Crashed(message="its process was killed"), force=True)
                    log.info("flow run %s was left running by a killed process: marked as crashed", run.name)
    except UserError:
        return  # a live run holds the workspace, and what says Running is


if __name__ == "__main__":
    from flows.server import prefect_api

    here = Path.cwd()
    with prefect_api(here):
        end_orphans(here)
    Store(here).sweep()
