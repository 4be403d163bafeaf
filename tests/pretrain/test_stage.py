import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.core.paths import Inputs, Outputs
from tasks.model.curves import Curves, read_curves
from tasks.pack.packing import pack_rows
from tasks.pretrain.architecture import build_config, build_model, training_flops_per_token
from tasks.pretrain.data_loader import IGNORED, PackedSplit, RowOrder
from tasks.pretrain.distributed import check_compiler
from tasks.pretrain.optimizers import Muon, learning_rate
from tasks.pretrain.params import PretrainParams
from tasks.pretrain.rank import leave_outcome
from tasks.pretrain.stage import run
from tests.helpers.checkout import ROOT

VOCABULARY, CONTEXT = 64, 32
TINY = {
    "layers": 2,
    "hidden": 32,
    "heads": 4,
    "kv_heads": 2,
    "intermediate": 64,
    "steps": 12,
    "warmup_steps": 2,
    "global_batch_tokens": 8 * CONTEXT,
    "optimizer": "adamw",
    "micro_batch_rows": 4,
    "learning_rate": 0.01,
    "validation_every": 5,
    "checkpoint_every": 4,
}


def write_split(folder: Path, documents: int, seed: int) -> None:
    """Documents in which each token all but decides the next one."""
    generator = np.random.default_rng(seed)
    stream, offsets = [], [0]
    for length in generator.integers(5, 70, documents):
        first = int(generator.integers(6, VOCABULARY))
        stream += [0, *[6 + (first + 7 * place) % (VOCABULARY - 6) for place in range(length - 1)]]
        offsets.append(len(stream))
    folder.mkdir()
    np.array([*stream, 0], dtype=np.uint16).tofile(folder / "tokens.bin")
    packed = pack_rows(np.array(offsets), CONTEXT)
    np.save(folder / "offsets.npy", np.array(offsets))
    np.save(folder / "segments.npy", packed.segments)
    np.save(folder / "rows.npy", packed.rows)


def make_inputs(root: Path, validation_documents: int = 10) -> Inputs:
    pack, tokenizer = root / "pack", root / "tokenizer"
    pack.mkdir()
    write_split(pack / "train", 80, seed=1)
    write_split(pack / "validation", validation_documents, seed=2)
    token_bytes = np.ones(VOCABULARY, dtype=np.int64)
    token_bytes[:6] = 0
    np.save(pack / "token_bytes.npy", token_bytes)
    description = {"context_length": CONTEXT, "vocabulary_size": VOCABULARY, "dtype": "uint16", "document_start": 0}
    (pack / "pack.json").write_text(json.dumps(description))
    names = ["<|endoftext|>", "<|pad|>", *[f"t{number}" for number in range(2, VOCABULARY)]]
    words = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<|pad|>"))
    fast = PreTrainedTokenizerFast(tokenizer_object=words, bos_token=names[0], eos_token=names[0], pad_token=names[1])
    fast.chat_template = "{{ messages[0].content }}"
    fast.save_pretrained(tokenizer)
    return Inputs({"pack": pack, "tokenizer": tokenizer})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def project(root: Path, ranks: int = 1) -> Outputs:
    """Outputs in `root`, with an execution.yaml beside them; `work` stays, as the stage contract has it."""
    shutil.rmtree(root / "out", ignore_errors=True)
    outputs = Outputs(root / "out", root / "work")
    outputs.root.mkdir(parents=True)
    outputs.work.mkdir(exist_ok=True)
    (root / "execution.yaml").write_text(f"ranks: {ranks}\nthreads: 1\ndevice: cpu\n")
    return outputs


def pretrain(root: Path, inputs: Inputs, monkeypatch, ranks: int = 1, **changes):
    outputs = project(root, ranks)
    monkeypatch.chdir(root)
    metrics = run(params(**changes), inputs, outputs)
    json.dumps(metrics, allow_nan=False)
    return metrics, outputs


def params(**changes) -> PretrainParams:
    return validate(PretrainParams, {**TINY, **changes}, "params.yaml: pretrain")


def start_apart(root: Path, inputs: Inputs, **changes) -> subprocess.Popen:
    """The same in a process of its own, which signals can be sent to."""
    project(root)
    script = (
        "import sys, json\n"
        "from pathlib import Path\n"
        "from tasks.core import interruption\n"
        "from tasks.core.errors import Interrupted\n"
        "from tasks.core.paths import Inputs, Outputs\n"
        "from tasks.pretrain.stage import PretrainParams, run\n"
        "interruption.listen()\n"
        "params, inputs = json.loads(sys.argv[1]), json.loads(sys.argv[2])\n"
        "try:\n"
        "    run(PretrainParams(**params), Inputs({k: Path(v) for k, v in inputs.items()}), Outputs(Path('out'), Path('work')))\n"
        "except Interrupted:\n"
        "    sys.exit(75)\n"
    )
    arguments = [json.dumps({**TINY, **changes}), json.dumps({name: str(path) for name, path in inputs.items()})]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=root, env=environment)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def wait_for(condition, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def steps_written(root: Path) -> int:
    path = root / "out" / "curves.csv"
    return max(0, path.read_text().count("\n") - 1) if path.exists() else 0


# Parameters


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 30}, r"hidden \(30\) must be an even multiple of heads \(4\)"),
        ({"kv_heads": 3}, r"kv_heads \(3\) must divide heads \(4\)"),
        ({"precision": "bf16"}, "needs zero_stage 1 or more"),
        ({"optimizer": "muon", "zero_stage": 1}, "muon needs zero_stage 0"),
        ({"warmup_steps": 13}, "at most steps"),
        ({"zero_stage": 4}, "zero_stage"),
    ],
)
def test_sizes_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        params(**changes)


def test_compiling_without_the_headers_of_python_is_refused(monkeypatch):
    check_compiler(False)
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    check_compiler(False)
    with pytest.raises(UserError, match=r"apt-get install python3\.\d+-dev, or set compile: false"):
        check_compiler(True)


def test_batch_must_be_whole_rows(tmp_path, inputs, monkeypatch):
    with pytest.raises(UserError, match=r"multiple of pack.context_length \(32\), got 100"):
        pretrain(tmp_path, inputs, monkeypatch, global_batch_tokens=100)
    with pytest.raises(UserError, match="3 ranks cannot share evenly"):
        pretrain(tmp_path, inputs, monkeypatch, ranks=3)


def test_schedules():
    wsd = [learning_rate(params(steps=10, warmup_steps=2, decay_fraction=0.4, learning_rate=1.0), s) for s in range(10)]
    assert wsd == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    cosine = [learning_rate(params(steps=4, warmup_steps=0, schedule="cosine", learning_rate=1.0), s) for s in range(4)]
    assert cosine == pytest.approx([1, 0.8535534, 0.5, 0.1464466])


def test_muon_is_torchs():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 24 * 10).sin().reshape(24, 10).clone()) for _ in range(2))
    optimizers = Muon([ours], 0.01, 0.1), torch.optim.Muon([theirs], 0.01, 0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        ours.grad = torch.randn(24, 10)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=3e-3)  # theirs computes in bf16


# Data


def test_rows_are_the_stream(inputs):
    data = PackedSplit(inputs["pack"], "train", pad=1)
    batch = data.batch(np.arange(len(data)))
    assert (
        batch.targets == data.targets(np.arange(len(data))) == len(data.tokens) - 1
    )  # every token but the first, once
    starts = batch.position_ids == 0
    for row in range(len(data)):
        inside = ~starts[row, 1:] & (batch.labels[row, 1:] != IGNORED)
        assert (batch.labels[row, :-1][inside] == batch.input_ids[row, 1:][inside]).all()
    padding = batch.labels == IGNORED
    assert (batch.input_ids[padding] == 1).all()


def test_each_epoch_visits_every_row_once():
    order = RowOrder(rows=10, batch_rows=4, seed=3)
    seen = np.concatenate([order.of_step(step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert (RowOrder(10, 4, 3).of_step(4) == seen[16:]).all()  # without having walked there
    assert (RowOrder(10, 4, 4).of_step(0) != seen[:4]).any()


def test_documents_in_a_row_do_not_see_each_other(inputs):
    model = build_model(build_config(params(), VOCABULARY, CONTEXT, 0, 1), seed=0).eval()
    data = PackedSplit(inputs["pack"], "train", pad=1)
    number = next(row for row in range(len(data)) if data.rows[row + 1] - data.rows[row] > 1)
    batch = data.batch(np.array([number]))
    border = int(np.flatnonzero(batch.position_ids[0] == 0)[1])
    tokens, positions = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.position_ids)
    changed = tokens.clone()
    changed[0, :border] = 6 + (changed[0, :border] + 1) % (VOCABULARY - 6)
    with torch.no_grad():
        before, after = (model(input_ids=t, position_ids=positions, use_cache=False).logits for t in (tokens, changed))
        alone = model(input_ids=tokens[:, border:], position_ids=positions[:, border:], use_cache=False).logits
    assert (before[:, :border] - after[:, :border]).abs().max() > 0
    assert (before[:, border:] - after[:, border:]).abs().max().item() == 0.0
    assert torch.allclose(before[:, border:], alone, atol=1e-5)


def test_flops_convention():
    config = build_config(params(), VOCABULARY, CONTEXT, 0, 1)
    assert training_flops_per_token(config, 1000, CONTEXT) == 6 * 1000 + 12 * 2 * 32 * CONTEXT


def test_curves_continue_without_gap_or_double(tmp_path):
    first = Curves(tmp_path / "a.csv")
    for step in range(1, 6):
        first.write({"step": step, "loss": 1 / step})
    first.close()
    second = Curves(tmp_path / "b.csv", tmp_path / "a.csv", step=3)
    for step in range(4, 7):
        second.write({"step": step, "loss": 1 / step})
    second.close()
    assert [row["step"] for row in read_curves(tmp_path / "b.csv")] == ["1", "2", "3", "4", "5", "6"]


# Training


def test_trains_and_saves_what_it_trained(tmp_path, inputs, monkeypatch):
    metrics, outputs = pretrain(tmp_path, inputs, monkeypatch, steps=40, validation_every=20)
    curves = list(csv.DictReader((outputs / "curves.csv").open()))
    assert [int(row["step"]) for row in curves] == list(range(1, 41))
    assert float(curves[0]["loss"]) == pytest.approx(np.log(VOCABULARY), rel=0.05)  # it begins knowing nothing
    assert metrics["training_loss"] < 2.5
    assert [row["step"] for row in curves if row["validation_bits_per_byte"]] == ["20", "40"]
    assert all(float(row["gradient_norm"]) > 0 for row in curves)
    assert set(outputs.timings) >= {"tokens_per_second", "mfu", "peak_flops"}

    model = AutoModelForCausalLM.from_pretrained(outputs.root).eval()
    assert model.config.tie_word_embeddings
    assert model.num_parameters() == metrics["parameters"]
    assert AutoTokenizer.from_pretrained(outputs.root).chat_template
    data = PackedSplit(inputs["pack"], "validation", pad=1)  # an independent count of bits per byte
    nats = count = 0
    for row in range(len(data)):
        batch = data.batch(np.array([row]))
        labels = torch.from_numpy(np.where(batch.labels == 0, IGNORED, batch.labels))
        with torch.no_grad():
            tokens, positions = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.position_ids)
            logits = model(
                input_ids=tokens, position_ids=positions, use_cache=False
            ).logits  # a cache would mix documents
        nats += torch.nn.functional.cross_entropy(logits[0], labels[0], reduction="sum").item()
        count += int((labels != IGNORED).sum())  # each token stands for one byte here
    assert metrics["validation_bits_per_byte"] == pytest.approx(nats / np.log(2) / count, rel=1e-5)


@pytest.mark.slow
def test_divergence_is_named(tmp_path, inputs, monkeypatch):
    with pytest.raises(UserError, match=r"(loss|norm) is (nan|inf) at step \d+: .*learning_rate"):
        pretrain(tmp_path, inputs, monkeypatch, learning_rate=1e30, warmup_steps=0, clip=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"zero_stage": 2}, {"optimizer": "muon"}], ids=["zero0", "zero2", "muon"])
def test_killed_and_continued_is_never_killed(tmp_path, inputs, monkeypatch, changes):
    metrics, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, steps=60, **changes)
    root = tmp_path / "killed"
    process = start_apart(root, inputs, steps=60, **changes)
    wait_for(lambda: steps_written(root) >= 10)
    process.kill()
    process.wait()
    assert steps_written(root) < 60
    assert list((root / "work" / "checkpoints").glob("step-*"))
    again, continued = pretrain(root, inputs, monkeypatch, steps=60, **changes)
    assert again == metrics
    assert files(continued.root) == files(whole.root)


@pytest.mark.slow
def test_sigterm_saves_and_stops(tmp_path, inputs, monkeypatch):
    metrics, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, steps=100, checkpoint_every=1000)
    root = tmp_path / "stopped"
    process = start_apart(root, inputs, steps=100, checkpoint_every=1000)
    wait_for(lambda: steps_written(root) >= 5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    reached = steps_written(root)
    (saved,) = (root / "work" / "checkpoints").glob("step-*")
    assert int(saved.name.removeprefix("step-")) == reached < 100
    again, continued = pretrain(root, inputs, monkeypatch, steps=100, checkpoint_every=1000)
    assert again == metrics
    assert files(continued.root) == files(whole.root)


@pytest.mark.slow
def test_stopped_while_validating(tmp_path, monkeypatch):
    inputs = make_inputs(tmp_path, validation_documents=3000)
    changes = {"steps": 6, "validation_tokens": 1 << 20, "checkpoint_every": 1000}
    metrics, whole = pretrain(tmp_path / "whole", inputs, monkeypatch, **changes)
    root = tmp_path / "stopped"
    process = start_apart(root, inputs, **changes)
    wait_for(lambda: steps_written(root) >= 4)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    (saved,) = (root / "work" / "checkpoints").glob("step-*")
    assert json.loads((saved / "manifest.json").read_text())["state"]["pending"]["step"] == 5
    again, continued = pretrain(root, inputs, monkeypatch, **changes)
    assert again == metrics
    assert files(continued.root) == files(whole.root)


@pytest.mark.slow
def test_damaged_checkpoint_is_passed_over(tmp_path, inputs, monkeypatch, capfd):
    metrics, whole = pretrain(tmp_path / "whole", inputs, monkeypatch)
    root = tmp_path / "damaged"
    _, first = pretrain(root, inputs, monkeypatch)
    newest = max((first.work / "checkpoints").glob("step-*"))
    weights = next(newest.rglob("*model_states.pt"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    again, continued = pretrain(root, inputs, monkeypatch)
    logged = capfd.readouterr().err
    assert "step-000000012: state/mp_rank_00_model_states.pt was changed or damaged" in logged
    assert "continuing from the checkpoint of step 8" in logged
    assert again == metrics
    assert files(continued.root) == files(whole.root)


@pytest.mark.slow
def test_no_rank_outlives_the_stage(tmp_path, inputs):
    root = tmp_path / "orphans"
    project(root)
    process = start_apart(root, inputs, steps=100000)
    wait_for(lambda: steps_written(root) >= 2)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert children
    process.kill()
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children), timeout_s=120)


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


@pytest.mark.slow
def test_without_validation_rows(tmp_path, monkeypatch):
    metrics, _ = pretrain(tmp_path / "run", make_inputs(tmp_path, validation_documents=0), monkeypatch)
    assert metrics["validation_bits_per_byte"] is None


def test_of_several_ranks_the_first_to_fail_tells_why(tmp_path):
    leave_outcome(tmp_path, "3", {"status": "mistake", "message": "no space left"})
    leave_outcome(tmp_path, "0", {"status": "failed", "message": "connection closed by peer"})
    assert json.loads((tmp_path / "outcome.json").read_text())["message"] == "no space left"
