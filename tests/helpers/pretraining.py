"""Running pretrain on made-up tokens, here and in a process of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tasks.core.params import validate
from tasks.core.paths import Inputs, Outputs
from tasks.pack.packing import pack_rows
from tasks.pretrain.data_loader import IGNORE_INDEX, PackedDataset
from tasks.pretrain.launching import launch
from tasks.pretrain.params import PlannedParams
from tasks.pretrain.stage import run
from tests.helpers.checkout import ROOT
from tests.helpers.forked_ranks import ForkedRanks

VOCABULARY = 64
CONTEXT = 32
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
    "keep_stable": 0,  # tests that share their rows do not continue each other
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


def make_inputs(root: Path, validation_documents: int = 10, train_rows: int | None = None) -> Inputs:
    pack, tokenizer = root / "pack", root / "tokenizer"
    pack.mkdir()
    write_split(pack / "train", 80, seed=1)
    if train_rows:
        np.save(pack / "train" / "rows.npy", np.load(pack / "train" / "rows.npy")[: train_rows + 1])
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


def project(root: Path, ranks: int = 1, execution: str = "") -> Outputs:
    """Outputs in `root`, with an execution.yaml beside them (`execution`: more of it); `work` stays, as the contract has it."""
    shutil.rmtree(root / "out", ignore_errors=True)
    outputs = Outputs(root / "out", root / "work")
    outputs.root.mkdir(parents=True)
    outputs.work.mkdir(exist_ok=True)
    (root / "execution.yaml").write_text(f"ranks: {ranks or 'auto'}\nthreads: 1\ndevice: cpu\n{execution}")
    return outputs


def pretrain(root: Path, inputs: Inputs, monkeypatch, ranks: int = 1, **changes):
    """Run the stage in `root`, its ranks forked; returns its metrics and outputs."""
    outputs = project(root, ranks)
    monkeypatch.chdir(root)
    monkeypatch.setattr(launch, "start_ranks", ForkedRanks)
    metrics = run(params(**changes), inputs, outputs)
    json.dumps(metrics, allow_nan=False)
    return metrics, outputs


def params(**changes) -> PlannedParams:
    return validate(PlannedParams, {**TINY, **changes}, "params.yaml: pretrain")


def stage_apart(inputs: Inputs, **changes) -> list[str]:
    """A script that runs the stage in the folder it is started in, and its arguments."""
    script = (
        "import sys, json\n"
        "from pathlib import Path\n"
        "from tasks.core import interruption\n"
        "from tasks.core.errors import Interrupted, UserError\n"
        "from tasks.core.paths import Inputs, Outputs\n"
        "from tasks.pretrain.stage import PretrainParams, run\n"
        "interruption.install_handlers()\n"
        "params, inputs = json.loads(sys.argv[1]), json.loads(sys.argv[2])\n"
        "try:\n"
        "    run(PretrainParams(**params), Inputs({k: Path(v) for k, v in inputs.items()}), Outputs(Path('out'), Path('work')))\n"
        "except Interrupted:\n"
        "    interruption.ignore_further_signals()\n"
        "    sys.exit(75)\n"
        "except UserError as error:\n"
        "    sys.exit(str(error))\n"
    )
    return [script, json.dumps({**TINY, **changes}), json.dumps({name: str(path) for name, path in inputs.items()})]


def start_apart(root: Path, inputs: Inputs, execution: str = "", ranks: int = 1, **changes) -> subprocess.Popen:
    """The same in a process of its own, which signals can be sent to; what it says stands in stderr.txt."""
    project(root, 0 if "hostfile" in execution else ranks, execution)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", *stage_apart(inputs, **changes)]
    with (root / "stderr.txt").open("w") as errors:
        return subprocess.Popen(command, cwd=root, env=environment, stderr=errors)


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


def steps_in_checkpoints(root: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (root / "work" / "checkpoints").glob("step-*"))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def bits_per_byte(folder: Path, inputs: Inputs) -> float:
    """An independent count over all validation rows, of a saved decoder."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    data = PackedDataset(inputs["pack"], "validation", pad=1)
    nats = count = 0
    for row in range(len(data)):
        batch = data.batch(np.array([row]))
        labels = torch.from_numpy(np.where(batch.labels == 0, IGNORE_INDEX, batch.labels))
        with torch.no_grad():
            tokens, positions = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.position_ids)
            logits = model(
                input_ids=tokens, position_ids=positions, use_cache=False
            ).logits  # a cache would mix documents
        nats += torch.nn.functional.cross_entropy(logits[0], labels[0], reduction="sum").item()
        count += int((labels != IGNORE_INDEX).sum())  # each token stands for one byte here
    return nats / float(np.log(2)) / count
