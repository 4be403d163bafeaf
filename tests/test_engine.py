"""map_shards: order, equality over worker counts, and workers that fail or are killed."""

import os
import signal

import pytest

from tasks.core.engine import map_shards
from tasks.core.errors import UserError


def square(n: int) -> int:
    return n * n


def fail_on_three(n: int) -> int:
    if n == 3:
        raise UserError("shard 3: broken")
    return n


def die_on_two(n: int) -> int:
    if n == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    assert list(map_shards(square, range(7), "squares", workers)) == [n * n for n in range(7)]
    assert list(map_shards(square, [], "squares", workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_names_its_shard(workers: int) -> None:
    with pytest.raises(UserError, match="shard 3"):
        list(map_shards(fail_on_three, range(6), "numbers", workers))


def test_a_killed_worker_is_told() -> None:
    with pytest.raises(UserError, match="a worker process was killed"):
        list(map_shards(die_on_two, range(5), "numbers", 2))
