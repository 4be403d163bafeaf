"""The engine `ray`: shards as tasks of a Ray cluster (Moritz et al. 2018, arXiv:1712.05889)."""

import logging
import os
import pickle
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError, WorkerLost


def on_ray(
    function: Callable[[Any], Any], shards: Sequence[Any], limit: int | None, address: str | None
) -> Iterator[Any]:
    """Yield `function(shard)` in order, or WorkerLost where Ray lost the worker twice (a node that goes counts too).

    Args:
        limit: shards under way at the same time; None: twice the cluster's cores, so that none waits for work.
        address: of the cluster, `auto` for one that runs on this machine; None starts a local one and ends it.

    Raises:
        UserError: Ray is not installed, or the cluster is out of reach.
    """
    ray = _connect(address)
    try:
        call = ray.remote(num_cpus=1, max_retries=1, retry_exceptions=False)(_call)
        window = limit or max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
        payload = pickle.dumps(function)

        def start(shard: Any) -> Any:
            return call.remote(payload, pickle.dumps(shard))

        pending: deque[tuple[Any, Any]] = deque()
        for shard in shards:
            if len(pending) >= window:
                yield _outcome(ray, start, *pending.popleft())
            pending.append((shard, start(shard)))
        while pending:
            yield _outcome(ray, start, *pending.popleft())
    finally:
        ray.shutdown()


def _connect(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", "1")
    try:
        import ray
    except ImportError:
        raise UserError(
            "execution.yaml: engine: ray is not installed. Install it: pip install -c requirements.lock ray, "
            "or set engine: local"
        ) from None
    if address and ":" in address:
        _probe(address)  # Ray itself would try for minutes
    here = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))}}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            runtime_env=here,
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise UserError(_unreachable(address, error)) from None
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own in the place of the stage's
    return ray


def _probe(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.removeprefix("ray://").strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(_unreachable(address, error)) from None


def _unreachable(address: str | None, error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"execution.yaml: cluster: no Ray cluster at {address!r} ({first}). Start it: ray start --head"


def _outcome(ray: Any, start: Callable[[Any], Any], shard: Any, reference: Any) -> Any:
    for _ in range(2):
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.ObjectLostError:  # it was done, but the node that held the result is gone
            reference = start(shard)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
            break
    return WorkerLost(shard)


def _call(function: bytes, shard: bytes) -> Any:
    """Runs in Ray's worker, in the folder of the project that PYTHONPATH begins with."""
    os.chdir(os.environ["PYTHONPATH"].partition(os.pathsep)[0])
    return pickle.loads(function)(pickle.loads(shard))  # noqa: S301 - what this stage pickled itself
