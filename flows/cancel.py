"""Cancel in the Prefect UI: the flow looks at its own state every few seconds and stops when it is told to."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

POLL_INTERVAL_S = 2.0
log = logging.getLogger("textmill.flow")


@contextmanager
def watch_for_cancel(flow_run_id: str | None, stop: threading.Event) -> Iterator[None]:
    """While inside, set `stop` once the flow run is Cancelling or Cancelled."""
    over = threading.Event()

    def look() -> None:
        with get_client(sync_client=True) as client:
            while not over.wait(POLL_INTERVAL_S):
                try:
                    state = client.read_flow_run(UUID(flow_run_id)).state
                except (PrefectException, httpx.HTTPError) as error:  # the server is away: work goes on without it
                    log.debug("cannot read the flow run's state: %s", error)
                    continue
                if state is not None and (state.is_cancelling() or state.is_cancelled()):
                    stop.set()
                    return

    thread = threading.Thread(target=look, daemon=True)
    if flow_run_id:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join(timeout=5)
