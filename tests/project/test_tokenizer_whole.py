"""From text to a tuned, quantized and scored model with a tokenizer that is no BPE, stage by stage."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.conversations.conversation import SCHEMA, render_conversation
from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.core.paths import Inputs, Outputs
from tasks.documents.shards import SCHEMA as DOCUMENTS
from tasks.documents.shards import write_documents
from tasks.evaluate import stage as evaluate
from tasks.finetune import stage as finetune
from tasks.pack import stage as pack
from tasks.prefer import stage as prefer
from tasks.prefer.params import PreferParams
from tasks.pretrain import stage as pretrain
from tasks.quantize import stage as quantize
from tasks.tokenizer import stage as tokenizer
from tests.helpers.tiny import conversation, sentence

VOCABULARY, CONTEXT = 300, 64
SMALL: dict[Any, dict[str, Any]] = {
    tokenizer: {"vocab_size": VOCABULARY},
    pack: {"context_length": CONTEXT},
    pretrain: {
        "layers": 1,
        "hidden": 32,
        "heads": 2,
        "kv_heads": 1,
        "intermediate": 64,
        "steps": 2,
        "warmup_steps": 1,
        "learning_rate": 0.005,
        "global_batch_tokens": 4 * CONTEXT,
        "micro_batch_rows": 4,
        "validation_every": 1,
        "checkpoint_every": 2,
    },
    prefer: {
        "method": "grpo",
        "grpo": {"steps": 1, "prompts": 2, "samples": 4},
        "held_out": 4,
        "max_new_tokens": 4,
    },
    finetune: {"max_steps": 2, "batch": 4, "micro_batch": 4, "max_length": CONTEXT},
    quantize: {"formats": ["torchao-int8"], "prompts": 2, "max_bytes": 500},
    evaluate: {"max_bytes": 1000, "max_questions": 2, "max_new_tokens": 4, "prompts": ["Hello!"], "samples": 1},
}
PARAMETERS = {
    tokenizer: tokenizer.TokenizerParams,
    pack: pack.PackParams,
    pretrain: pretrain.PretrainParams,
    finetune: finetune.FinetuneParams,
    prefer: PreferParams,
    quantize: quantize.QuantizeParams,
    evaluate: evaluate.EvaluateParams,
}


def run(stage: Any, root: Path, inputs: tuple[str, ...], name: str = "", **changes: Any) -> dict[str, Any]:
    """Run a stage as dvc.yaml wires it, its inputs and outputs being folders of `root`; returns its metrics."""
    name = name or stage.__name__.split(".")[1]
    outputs = Outputs(root / name, root / "work" / name)
    outputs.root.mkdir()
    outputs.work.mkdir(parents=True)
    params = validate(PARAMETERS[stage], {**SMALL[stage], **changes}, name)
    metrics: dict[str, Any] = stage.run(params, Inputs({one: root / one for one in inputs}), outputs)
    json.dumps(metrics, allow_nan=False)
    return metrics


def write_data(root: Path) -> None:
    """Sentences as documents, one in five held out, conversations to tune on, and questions."""
    texts = [". ".join(sentence(random.Random(9 * n + m)) for m in range(6)) + " — né 日本\n" for n in range(60)]
    dialogues = [conversation(n) for n in range(40)]
    common = [{"id": f"d{n}", "source": "docs", "text": text, "meta": {}} for n, text in enumerate(texts)]
    common += [
        {"id": f"c{n}", "source": "chat", "text": render_conversation(messages), "meta": {"messages": messages}}
        for n, messages in enumerate(dialogues)
    ]
    rows = [{**row, "split": "train" if n % 5 else "validation"} for n, row in enumerate(common)]
    write_documents(rows, root / "documents", schema=DOCUMENTS.append(pa.field("split", pa.string())))
    (root / "evaluation").mkdir()
    kinds = {"train": dialogues, "held_out": [conversation(n, 2) for n in range(1000, 1006)]}
    for folder, found in kinds.items():
        kind = "conversation" if folder == "train" else "question"
        rows = [{"id": f"{folder}{n}", "source": "s", "kind": kind, "messages": m} for n, m in enumerate(found)]
        rows += [{**row, "id": row["id"] + "c", "kind": "conversation"} for row in rows if folder == "held_out"]
        write_documents(rows, root / folder, schema=SCHEMA)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["unigram", "wordpiece"])
def test_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "execution.yaml").write_text("workers: 1\nranks: 1\nthreads: 1\ndevice: cpu\n")
    write_data(tmp_path)
    run(tokenizer, tmp_path, ("documents",), model=model)
    run(pack, tmp_path, ("documents", "tokenizer"))
    trained = run(pretrain, tmp_path, ("pack", "tokenizer"))
    run(finetune, tmp_path, ("pretrain", "tokenizer", "train"))
    run(prefer, tmp_path, ("finetune", "train", "held_out"))
    quantized = run(quantize, tmp_path, ("finetune", "prefer", "documents", "train", "held_out"))
    scored = run(evaluate, tmp_path, ("pretrain", "finetune", "prefer", "documents", "held_out", "evaluation"))

    text = "né 日本 <|end|>\n"
    for folder in ("tokenizer", "pretrain", "finetune", "prefer", "quantize/torchao-int8"):
        loaded = AutoTokenizer.from_pretrained(tmp_path / folder)
        assert loaded.decode(loaded(text, split_special_tokens=True).input_ids) == text
    for folder in ("pretrain", "finetune", "prefer"):
        assert AutoModelForCausalLM.from_pretrained(tmp_path / folder).config.vocab_size == VOCABULARY
    for found in (scored["pretrain"]["all"], scored["finetune"]["all"]):
        by_chance = math.log2(VOCABULARY) * found["tokens"] / found["bytes"]
        assert 0.5 * by_chance < found["bits_per_byte"] < by_chance
    assert trained["steps"] == 2
    int8, whole = quantized["formats"]["torchao-int8"]["bits_per_byte"], quantized["reference"]["bits_per_byte"]
    assert int8 == pytest.approx(whole, abs=0.1)

    with pytest.raises(UserError, match=r"GGUF export takes byte-level BPE only.*quantize\.formats"):
        run(
            quantize,
            tmp_path,
            ("finetune", "prefer", "documents", "train", "held_out"),
            "gguf",
            formats=["q8_0", "torchao-int8"],
        )
    assert not list((tmp_path / "gguf").rglob("*.gguf"))
