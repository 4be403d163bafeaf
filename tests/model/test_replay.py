"""A model of somebody else learns new text, and forgets less of the old where some of it is replayed."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from tasks.documents.shards import SCHEMA, write_documents
from tasks.pack import stage as pack
from tasks.pretrain import stage as pretrain
from tasks.tokenizer import stage as tokenizer_stage
from tests.helpers.given import given_model, qwen_split, stage
from tests.helpers.tiny import OBJECTS, SUBJECTS, VERBS

pytestmark = pytest.mark.usefixtures("one_worker")
SENTENCES = 6
RUNS = {"replay": {"replay": {"general": 0.25}}, "new": {"budgets": {"general": 0}}}


def document(source: str, seed: int) -> str:
    """Of general text the subject decides the verb and this the object; of new text the subject decides others."""
    rng, turn = random.Random(seed), 3 if source == "new" else 0
    chosen = [rng.randrange(len(SUBJECTS)) for _ in range(SENTENCES)]
    return " ".join(f"{SUBJECTS[n]} {VERBS[(n + turn) % 8]} {OBJECTS[(3 * n + turn) % 8]}." for n in chosen)


def nats(model: Any, tokenizer: Path, texts: list[str]) -> torch.Tensor:
    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    rows = [torch.tensor([[0, *encoder.encode(text, add_special_tokens=False).ids]])[:, :64] for text in texts]
    return torch.stack([model(input_ids=row, labels=row).loss for row in rows]).mean()


@pytest.mark.slow
def test_replay_keeps_what_the_new_text_would_overwrite(tmp_path: Path) -> None:
    given = given_model(tmp_path / "given", "qwen3", qwen_split())
    optimizer = torch.optim.AdamW(given.parameters(), lr=3e-3)
    for step in range(60):
        nats(given, tmp_path / "given", [document("general", 8 * step + n) for n in range(8)]).backward()
        optimizer.step()
        optimizer.zero_grad()
    given.save_pretrained(tmp_path / "given")
    rows = [
        {
            "id": f"{source}-{n}",
            "source": source,
            "text": document(source, 1000 + n),
            "split": "validation" if n < 8 else "train",
        }
        for source in ("general", "new")
        for n in range(200)
    ]
    held_out = {source: [document(source, 1000 + n) for n in range(8)] for source in ("general", "new")}
    models = {"given": tmp_path / "given"}
    for name, mixture in RUNS.items():
        data = tmp_path / name / "data"
        write_documents(rows, data / "decontaminate/documents", schema=SCHEMA.append(pa.field("split", pa.string())))
        stage(tokenizer_stage, data, ["decontaminate/documents"], {"pretrain.start_from": str(tmp_path / "given")})
        stage(pack, data, ["decontaminate/documents", "tokenizer"], context_length=64, mixture=mixture)
        metrics = stage(
            pretrain, data, ["pack", "tokenizer"], steps=30, global_batch_tokens=512, warmup_steps=3, learning_rate=1e-3,
            optimizer="adamw", start_from=str(tmp_path / "given"),
        )  # fmt: skip
        assert set(metrics["validation_bits_per_byte_by_source"]) == {"general", "new"}  # what is forgotten is seen
        models[name] = data / "pretrain"
    with torch.no_grad():
        lost = {
            name: {
                source: float(nats(AutoModelForCausalLM.from_pretrained(folder), folder, texts))
                for source, texts in held_out.items()
            }
            for name, folder in models.items()
        }
    assert AutoModelForCausalLM.from_pretrained(models["replay"]).config.model_type == "qwen3"
    before, replayed, new = lost["given"], lost["replay"], lost["new"]
    assert max(replayed["new"], new["new"]) < 0.7 * before["new"]
    assert new["general"] > before["general"]
    assert replayed["general"] - before["general"] < 0.5 * (new["general"] - before["general"]), lost
