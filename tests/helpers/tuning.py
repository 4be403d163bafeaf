"""Tuning stages in tests: run, interrupted, and compared by what they leave."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import Interrupted
from tasks.core.params import validate
from tasks.core.paths import Inputs, Outputs
from tasks.tuning import callback


def prefer(
    folder: Path, tuned: Path, data: Mapping[str, Path], block: Mapping[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Stage prefer with `block` as its parameters; the folder that it leaves under `folder`, and its metrics."""
    from tasks.prefer.params import PreferParams
    from tasks.prefer.stage import run

    outputs = Outputs(folder / "out", folder / "work")
    outputs.root.mkdir(parents=True, exist_ok=True)
    outputs.work.mkdir(exist_ok=True)
    params = validate(PreferParams, block, "params.yaml: prefer")
    metrics = run(params, Inputs({"finetune": tuned, **data}), outputs)
    json.dumps(metrics, allow_nan=False)
    return outputs.root, metrics


@contextmanager
def interrupted_while_saving(step: int) -> Iterator[None]:
    """What is run within saves at every step, and is interrupted before the checkpoint of `step` is whole."""
    save = callback.CurveAndCheckpointCallback.on_save

    def stop(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == step:
            raise Interrupted("SIGTERM")
        save(self, args, state, control, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callback, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        patch.setattr(callback.CurveAndCheckpointCallback, "on_save", stop)
        with pytest.raises(Interrupted):
            yield


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
