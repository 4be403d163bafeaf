"""What pretrain would do, from params.yaml and pack.json alone."""

import json
import re
import shutil
import sys

import pytest

from flows.dry_run import main
from flows.param_overrides import write_overrides
from tests.helpers.checkout import ROOT

SIZES = {
    "layers": 4,
    "hidden": 192,
    "heads": 3,
    "kv_heads": 1,
    "intermediate": 512,
    "steps": 450,
    "learning_rate": 0.005,
    "warmup_steps": 20,
    "architecture.tie_embeddings": None,
}


def set_sizes(project, **sizes):
    write_overrides(project / "params.yaml", {f"pretrain.{key}": value for key, value in (SIZES | sizes).items()})


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data/pack").mkdir(parents=True)
    about = {"context_length": 1024, "vocabulary_size": 50257, "dtype": "uint16", "document_start": 0}
    (tmp_path / "data/pack/pack.json").write_text(json.dumps(about))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_of_a_billion_on_64_ranks(project, capsys):
    """TinyLlama's shape (arXiv:2401.02385), whose weights anybody can multiply out."""
    sizes = {"layers": 22, "hidden": 2048, "heads": 32, "kv_heads": 4, "intermediate": 5632, "steps": 1000}
    sizes |= {"global_batch_tokens": 1024 * 512, "micro_batch_rows": 3, "warmup_steps": 10}
    sizes["batch_schedule"] = [{"until_step": 100, "global_batch_tokens": 1024 * 64}]
    sizes["context_schedule"] = [{"until_step": 200, "context_length": 256}]
    set_sizes(project, **sizes)
    assert main(["--ranks", "64"]) == 0
    said = capsys.readouterr().out
    block = 2048 * (2 * 2048 + 2 * 256 + 3 * 5632 + 2)
    assert f"{22 * block + 2048 + 50257 * 2048:,} parameters" in said
    assert "524,288 tokens = 512 rows; a rank has 8: 2 at a time, accumulated 4 times" in said
    assert "  until 100     65,536 tokens" in said
    assert "  until 200     rows of 256 tokens" in said
    assert f"1,000 steps, {900 * 524_288 + 100 * 65_536:,} tokens" in said
    assert re.search(r"model\.layers\.\*\.self_attn\.k_proj\.weight +\[256, 2048\] × 22\n", said)
    assert re.search(r"model\.embed_tokens\.weight +\[50257, 2048\]\n", said)


@pytest.mark.parametrize(
    ("family", "model"),
    [("gpt2", "GPT2LMHeadModel"), ("t5", "T5"), ("electra", "ReplacedTokenModel"), ("mixtral", "Mixtral")],
)
def test_any_family(project, capsys, family, model):
    sizes = {"family": family, "global_batch_tokens": 4096, "kv_heads": 3}
    set_sizes(project, **sizes)
    assert main(["--ranks", "2"]) == 0
    assert f"model         {model}" in capsys.readouterr().out


def test_mistakes(project, capsys):
    set_sizes(project, global_batch_tokens=1024 * 6)
    assert main(["--ranks", "4"]) == 2
    assert "6 rows, which 4 ranks cannot share evenly" in capsys.readouterr().err
    (project / "data/pack/pack.json").unlink()
    assert main([]) == 2
    assert "dvc repro pack" in capsys.readouterr().err


def test_it_touches_no_device(project, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("looked for a GPU"))
    set_sizes(project, global_batch_tokens=1024 * 4)
    assert main(["--ranks", "4"]) == 0
    assert "torch" in sys.modules
