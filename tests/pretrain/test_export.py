"""What is exported is what was trained: heads tied and apart, gathered from the ranks of every ZeRO stage, as transformers loads it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tasks.pretrain.checkpoints.fragment_files import FragmentFiles
from tests.helpers.pretraining import VOCABULARY, pretrain

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_every_stage_exports_the_same_model(tmp_path: Path, inputs, monkeypatch, tied: bool) -> None:
    """Each number of the last checkpoint's fragments, and the logits of the run on one rank."""
    tokens = torch.arange(VOCABULARY)[None, :32]
    alone: torch.Tensor | None = None
    for stage, ranks in ((0, 1), (1, 2), (2, 2), (3, 2)):
        changes = {"zero_stage": stage, "architecture": {"tie_embeddings": tied}, "steps": 4}
        metrics, outputs = pretrain(tmp_path / str(stage), inputs, monkeypatch, ranks=ranks, **changes)
        written = load_file(outputs / "model.safetensors")
        assert (HEAD in written) is not tied  # a matrix that is both stands there once
        model = AutoModelForCausalLM.from_pretrained(outputs.root).eval()
        assert model.num_parameters() == metrics["parameters"]
        assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
        last = max((outputs.work / "checkpoints").glob("step-*"))
        fragments = FragmentFiles(last)
        for name, shape in json.loads((last / "manifest.json").read_text())["shapes"].items():
            saved = fragments.read("weight", name, 0, written[name].numel()).view(shape)
            assert torch.equal(written[name], saved), (stage, name)
        with torch.no_grad():
            logits = model(tokens).logits
        assert tied or not torch.equal(written[HEAD], written[EMBEDDING])
        alone = logits if alone is None else alone
        assert torch.allclose(logits, alone, atol=1e-3), stage
