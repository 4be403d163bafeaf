"""Training over several ranks: the same losses, other numbers of ranks, and whose failure is told."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tasks.core.errors import UserError
from tasks.model.curves import read_curves
from tasks.pretrain.rank import write_outcome
from tests.helpers.checkout import ROOT
from tests.helpers.pretraining import (
    pretrain,
    start_apart,
    steps_written,
    wait_for,
)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "ranks"), [(0, 2), (1, 2), (2, 2), (3, 2), (3, 1)])
def test_losses_agree_over_ranks_and_stages(tmp_path, inputs, monkeypatch, stage, ranks):
    one, reference = pretrain(tmp_path / "one", inputs, monkeypatch)
    metrics, outputs = pretrain(tmp_path / "many", inputs, monkeypatch, ranks=ranks, zero_stage=stage)
    for alone, shared in zip(read_curves(reference / "curves.csv"), read_curves(outputs / "curves.csv"), strict=True):
        assert float(shared["loss"]) == pytest.approx(float(alone["loss"]), abs=3e-5)
        assert float(shared["gradient_norm"]) == pytest.approx(float(alone["gradient_norm"]), rel=1e-3)
    assert metrics["validation_bits_per_byte"] == pytest.approx(one["validation_bits_per_byte"], abs=1e-4)


@pytest.mark.slow
def test_other_number_of_ranks(tmp_path, inputs, monkeypatch):
    for stage in (0, 1):
        root = tmp_path / f"zero{stage}"
        process = start_apart(root, inputs, steps=100, zero_stage=stage)
        wait_for(lambda root=root: steps_written(root) >= 5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75
    _, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, steps=100)
    _, shared = pretrain(tmp_path / "zero0", inputs, monkeypatch, ranks=2, steps=100)
    for alone, other in zip(read_curves(whole / "curves.csv"), read_curves(shared / "curves.csv"), strict=True):
        assert float(other["loss"]) == pytest.approx(float(alone["loss"]), abs=3e-3)
    with pytest.raises(UserError, match="split over 1 ranks, now there are 2"):
        pretrain(tmp_path / "zero1", inputs, monkeypatch, ranks=2, steps=100, zero_stage=1)


def test_of_several_ranks_the_first_to_fail_tells_why(tmp_path):
    write_outcome(tmp_path, "3", {"status": "mistake", "message": "no space left"})
    write_outcome(tmp_path, "0", {"status": "failed", "message": "connection closed by peer"})
    assert json.loads((tmp_path / "outcome.json").read_text())["message"] == "no space left"


RANK = """
import json, os, sys
from pathlib import Path
work = Path(json.loads(Path(sys.argv[2]).read_text())["work"])
if os.environ["RANK"] == "0":
    (work / "outcome.json").write_text(json.dumps({"status": "finished"}))
"""
LAUNCH = """
from pathlib import Path
from tasks.pretrain.launch import run_ranks
print(run_ranks("quick_rank", {}, work=Path.cwd(), ranks=2, device="cpu", threads=1)["status"])
"""


@pytest.mark.slow
def test_the_name_of_the_host_need_not_resolve(tmp_path):
    (tmp_path / "quick_rank.py").write_text(RANK)
    elsewhere = [
        "unshare",
        "--user",
        "--map-root-user",
        "--uts",
        "sh",
        "-c",
        'hostname nowhere.invalid && exec "$@"',
        "sh",
    ]
    if subprocess.run([*elsewhere, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no names of hosts can be changed here")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [*elsewhere, sys.executable, "-c", LAUNCH]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "finished\n"
