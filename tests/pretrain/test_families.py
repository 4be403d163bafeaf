"""Other families than Llama through the stage: they train, are saved as transformers loads them, and say their own losses."""

import csv

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoTokenizer

from tasks.architectures.families.table import FAMILIES
from tasks.core.errors import UserError
from tasks.model.load import load_model
from tests.helpers.pretraining import VOCABULARY, params, pretrain

CLASSES = {family.name: getattr(transformers, next(iter(family.classes.values()))) for family in FAMILIES.values()}
SIZES = {"kv_heads": 4, "intermediate": 128}
RUNS = [
    ("gpt2", {"architecture": {"positions": "sinusoidal"}}),
    ("mixtral", {"architecture": {"experts": 4, "experts_per_token": 1}}),
    ("electra", {"masking": {"fraction": 0.3}}),
    ("deberta", {"masking": {"whole_words": True}}),
    ("t5", {"architecture": {"dropout": 0.1}}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes"), RUNS)
def test_a_family_is_trained_and_saved(name, changes, tmp_path, inputs, monkeypatch):
    """Its folder loads by transformers' class, its tokenizer knows the tokens that the objective added."""
    metrics, outputs = pretrain(tmp_path, inputs, monkeypatch, family=name, **SIZES, steps=30, **changes)
    curves = [float(row["loss"]) for row in csv.DictReader((outputs / "curves.csv").open())]
    assert curves[-1] < curves[0]
    assert 0 < metrics["validation_bits_per_byte"] < 8
    if not FAMILIES[name].is_causal:
        with pytest.raises(UserError, match=f"holds a {CLASSES[name].__name__}, which does not predict a next token"):
            load_model(outputs.root, "cpu")
    model = CLASSES[name].from_pretrained(outputs.root)
    assert AutoConfig.from_pretrained(outputs.root).model_type == FAMILIES[name].model_type
    tokenizer = AutoTokenizer.from_pretrained(outputs.root)
    assert len(tokenizer) == model.config.vocab_size
    objective = FAMILIES[name].objective
    if objective in ("masked", "replaced_token", "denoising"):
        assert tokenizer.mask_token_id == VOCABULARY
    elif objective == "span_corruption":
        assert tokenizer.convert_tokens_to_ids("<extra_id_0>") == VOCABULARY
    assert tokenizer.model_max_length == 32
    if name == "electra":
        generator = transformers.ElectraForMaskedLM.from_pretrained(outputs / "generator")
        assert generator.config.hidden_size == 8
        words = model.electra.embeddings.word_embeddings.weight
        assert torch.equal(generator.electra.embeddings.word_embeddings.weight, words)
        assert 0 < metrics["replaced_token"] < 1
    if name == "mixtral":
        assert 1.0 <= metrics["load_balancing"] < 4.0
    if name == "gpt2":
        assert torch.equal(model.transformer.wpe.weight[0, 16:], torch.ones(16))  # cosines of position 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["electra"])
def test_ranks_and_stages_change_nothing(name, tmp_path, inputs, monkeypatch):
    """What is hidden hangs on the place of a row in the global batch; so do two ranks of ZeRO-2 what one of stage 0 does."""
    same = {"family": name, **SIZES, "steps": 6, "architecture": {"positions": "sinusoidal"}}
    same["context_schedule"] = [{"until_step": 3, "context_length": 8}]
    losses = []
    for number, (ranks, changes) in enumerate(
        [(1, {}), (2, {"zero_stage": 2, "micro_batch_rows": 2}), (1, {"zero_stage": 3})]
    ):
        root = tmp_path / str(number)
        root.mkdir()
        _, outputs = pretrain(root, inputs, monkeypatch, ranks, **same, **changes)
        losses.append([float(row["loss"]) for row in csv.DictReader((outputs / "curves.csv").open())])
    assert losses[1] == pytest.approx(losses[0], abs=2e-5)
    assert losses[2] == pytest.approx(losses[0], abs=2e-5)


def test_what_a_family_cannot_be_is_told_before_anything_runs():
    with pytest.raises(UserError, match=r"params\.yaml: pretrain\.architecture\.norm: llama has no place for it"):
        params(architecture={"norm": "post"})
    with pytest.raises(UserError, match=r"pretrain\.family: .*'llama', 'mistral'.*got 'lama'"):
        params(family="lama")
    with pytest.raises(UserError, match=r"pretrain\.objective: gpt2 is trained by causal, not masked"):
        params(family="gpt2", kv_heads=4, objective="masked")
    with pytest.raises(UserError, match="sample_every: bert continues no text"):
        params(family="bert", kv_heads=4, sample_every=5)
    with pytest.raises(UserError, match=r"architecture\.heads: unknown key"):
        params(architecture={"heads": 3})
