"""The benchmark of training runs, and its scorer says what is known from outside."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks.training.contenders import measure
from benchmarks.training.tokens import make
from tests.helpers.checkout import ROOT


def test_a_model_that_knows_nothing_needs_the_logarithm_of_the_vocabulary(tmp_path):
    folder = make(tmp_path / "tokens", context=32, vocabulary=280, documents=200)
    rows, sizes = np.load(folder / "held_out.npy"), np.load(folder / "token_bytes.npy")
    targets = rows[:, 1:][rows[:, 1:] >= 0]
    bits = measure.held_out_bits_per_byte({"folder": str(folder)}, lambda ids: torch.zeros(*ids.shape, 280))
    assert bits == pytest.approx(math.log2(280) * len(targets) / sizes[targets].sum(), rel=1e-6)
    tokens = np.fromfile(folder / "train.bin", dtype=np.uint16)
    assert (folder / "pack/train/tokens.bin").read_bytes() == (folder / "train.bin").read_bytes()
    starts = np.load(folder / "pack/train/offsets.npy")
    assert set(tokens[starts]) == {0}  # every document, and the end, by the start token
    assert np.count_nonzero(tokens == 0) == len(starts)


def test_flops_of_the_convention():
    """GPT-2 small by hand: 124.3 M weights that multiply (head tied, places left out), 12 layers of 768 at 1,024 tokens."""
    matrices = 12 * 12 * 768**2 + 50257 * 768
    assert (
        measure.flops_per_token({"layers": 12, "hidden": 768, "context": 1024}, matrices) == 6 * matrices + 113_246_208
    )


@pytest.mark.slow
def test_two_contenders(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.training",
        "--tiny",
        "--state",
        str(tmp_path),
        "--only",
        "textmill",
        "plain_loop",
    ]
    command += ["--seconds", "0.3", "--seeds", "1", "--threads", "1"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    own, peer = (line.split("|") for line in done.stdout.splitlines()[2:4])
    assert own[1].strip() == "Textmill pretrain"
    assert float(peer[5]) > 0
    for row in (own, peer):
        assert 1 < float(row[7]) < math.log2(280)  # it has learned something
    used = json.loads((tmp_path / "out/plain_loop/config.json").read_text())
    assert used["folder"] == json.loads((tmp_path / "out/textmill/config.json").read_text())["folder"]
