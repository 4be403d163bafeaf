"""Pretraining on one GPU: speed, MFU and memory of the presets, and whether bf16 and ZeRO learn what fp32 learns.

    python -m benchmarks.gpu.pretraining speed gpu-124m gpu-1b --steps 8
    python -m benchmarks.gpu.pretraining agreement --data data --steps 60

`speed` trains a preset's model for a few steps on random tokens, in documents of about 700: what a step costs depends
on shapes alone. `agreement` trains the model of params.yaml on `data/pack` in fp32 and in bf16 under each ZeRO stage, and
shows the losses side by side. Both call the stage's own `run`.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.params import read_yaml
from tasks.core.paths import Inputs, Outputs
from tasks.model.curves import read_curves
from tasks.pretrain.params import PretrainParams
from tasks.pretrain.stage import run

MEAN_DOCUMENT_TOKENS = 700


def settings(preset: str, **changes: Any) -> dict[str, Any]:
    """The blocks of params.yaml, of a preset over it, and `changes` of `pretrain` over both."""
    blocks: dict[str, Any] = dict(read_yaml(Path("params.yaml")))
    for name, block in read_yaml(Path("presets") / f"{preset}.yaml").items():
        blocks[name] = {**blocks[name], **block}
    blocks["pretrain"] |= {name: value for name, value in changes.items() if value is not None}
    return blocks


def random_pack(folder: Path, context: int, vocabulary: int, rows: int) -> None:
    """`rows` rows of random tokens in the form of data/pack, cut into documents of exponentially distributed length."""
    random = np.random.default_rng(0)
    (folder / "pack.json").parent.mkdir(parents=True, exist_ok=True)
    about = {"context_length": context, "vocabulary_size": vocabulary, "document_start": 0, "dtype": "uint16"}
    (folder / "pack.json").write_text(json.dumps(about))
    np.save(folder / "token_bytes.npy", np.ones(vocabulary, dtype=np.uint16))
    for split, count in (("train", rows), ("validation", max(4, rows // 100))):
        (folder / split).mkdir()
        tokens = random.integers(1, vocabulary, count * context + 1, dtype=np.uint16)
        tokens.tofile(folder / split / "tokens.bin")
        starts = np.sort(random.integers(0, count * context, count * context // MEAN_DOCUMENT_TOKENS))
        edges = np.union1d(starts, np.arange(0, count * context + 1, context)).astype(np.int64)
        np.save(folder / split / "offsets.npy", np.array([0, count * context], dtype=np.int64))
        np.save(folder / split / "segments.npy", np.stack([edges[:-1], np.diff(edges)], axis=1))
        np.save(folder / split / "rows.npy", np.searchsorted(edges, np.arange(0, count * context + 1, context)))


def tiny_tokenizer(folder: Path) -> None:
    """What pretrain copies beside the model; its vocabulary plays no part in speed."""
    from tokenizers import Tokenizer, models

    from tasks.tokens.chat_template import SPECIAL_TOKENS

    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|pad|>"}'
    )


def train(params: dict[str, Any], pack: Path, tokenizer: Path) -> tuple[dict[str, Any], dict[str, float], Any]:
    """Metrics, timings and curve of a run of the stage."""
    with tempfile.TemporaryDirectory() as folder:
        root, work = Path(folder, "out"), Path(folder, "work")
        root.mkdir()
        work.mkdir()
        outputs = Outputs(root, work)
        metrics = run(PretrainParams.model_validate(params), Inputs({"pack": pack, "tokenizer": tokenizer}), outputs)
        return metrics, outputs.timings, read_curves(root / "curves.csv")


def speed(presets: list[str], steps: int, batch_tokens: int | None, change: dict[str, Any]) -> None:
    """A line of JSON for each preset."""
    for preset in presets:
        quiet = {"validation_every": 1 << 30, "checkpoint_every": 1 << 30, "validation_tokens": 1, "warmup_steps": 1}
        blocks = settings(preset, steps=steps, global_batch_tokens=batch_tokens, **quiet, **change)
        context, vocabulary = blocks["pack"]["context_length"], blocks["tokenizer"]["vocab_size"]
        rows = blocks["pretrain"]["global_batch_tokens"] // context * steps
        with tempfile.TemporaryDirectory() as folder:
            random_pack(Path(folder, "pack"), context, vocabulary, rows)
            tiny_tokenizer(Path(folder, "tokenizer"))
            metrics, timings, _ = train(blocks["pretrain"], Path(folder, "pack"), Path(folder, "tokenizer"))
        shown = {key: blocks["pretrain"][key] for key in ("micro_batch_rows", "zero_stage", "precision", "compile")}
        print(json.dumps({"preset": preset, "parameters": metrics["parameters"], **shown, **timings}), flush=True)


def agreement(data: Path, steps: int) -> None:
    """Losses of the same steps in fp32 and in bf16 under each ZeRO stage."""
    variants = [("fp32", 0), ("fp32", 1), ("fp32", 2), ("fp32", 3), ("bf16", 1), ("bf16", 2), ("bf16", 3)]
    for precision, stage in variants:
        change = {"optimizer": "adamw", "learning_rate": 2e-3, "precision": precision, "zero_stage": stage}
        params = settings("default", steps=steps, warmup_steps=min(20, steps), validation_every=steps, **change)[
            "pretrain"
        ]
        metrics, timings, curve = train(params, data / "pack", data / "tokenizer")
        losses = {int(row["step"]): round(float(row["loss"]), 5) for row in curve}
        shown = {step: losses[step] for step in (1, 2, steps // 4, steps // 2, steps)}
        bits = metrics["validation_bits_per_byte"]
        print(
            json.dumps({"precision": precision, "zero_stage": stage, "loss": shown, "bits": bits, **timings}),
            flush=True,
        )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.pretraining", description=main.__doc__)
    parser.add_argument("what", choices=["speed", "agreement"])
    parser.add_argument("presets", nargs="*")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-tokens", type=int, help="global batch in place of the preset's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="a key of pretrain")
    parser.add_argument("--data", type=Path, default=Path("data"))
    options = parser.parse_args()
    change = {key: json.loads(value) for key, _, value in (text.partition("=") for text in options.set)}
    if options.what == "speed":
        speed(options.presets, options.steps, options.batch_tokens, change)
    else:
        agreement(options.data, options.steps)


if __name__ == "__main__":
    main()
