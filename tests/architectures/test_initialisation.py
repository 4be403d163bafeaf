"""First weights: by their variance, where they are asked for, and untouched where not; muP by its coordinate check."""

import math

import pytest
import torch

from tasks.architectures.building.block_weights import block_matrices, residual_outputs
from tasks.architectures.building.create import model_class
from tasks.architectures.building.initialisation import sinusoids
from tasks.architectures.building.mup import learning_rate_multipliers
from tasks.architectures.families.table import FAMILIES
from tests.helpers.architectures import VOCABULARY, tiny


@pytest.mark.parametrize("name", FAMILIES)
def test_without_choices_first_weights_are_transformers_own(name: str) -> None:
    model = tiny(name)
    torch.manual_seed(0)
    theirs = model_class(FAMILIES[name], FAMILIES[name].objective)(model.config).state_dict()
    assert all(torch.equal(weight, theirs[key]) for key, weight in model.state_dict().items())


@pytest.mark.parametrize("name", FAMILIES)
def test_variances(name: str) -> None:
    """Glorot and He, of every matrix in the blocks, whichever way round it lies; the blocks' matrices are all but a few weights."""
    for kind, variance in (("xavier", lambda i, o: 2 / (i + o)), ("kaiming", lambda i, o: 2 / i)):
        model = tiny(name, initialisation=kind)
        matrices = list(block_matrices(model, FAMILIES[name]))
        assert len(matrices) >= 2 * 4
        for key, weight, fan_in, fan_out in matrices:
            if weight.numel() >= 1000:
                spread = weight.std().item() / math.sqrt(variance(fan_in, fan_out))
                assert spread == pytest.approx(1, abs=5 / math.sqrt(2 * weight.numel())), key
    assert {tuple(sorted((i, o))) for _, weight, i, o in matrices if weight.shape[-1] != weight.shape[-2]}


@pytest.mark.parametrize("name", FAMILIES)
def test_zero_and_scaled_output_projections(name: str) -> None:
    """Two a layer (three in a decoder that looks at an encoder); with zeros a pre-norm block is the identity."""
    family = FAMILIES[name]
    zero = tiny(name, zero_init_outputs=True)
    outputs = [weight for weight in residual_outputs(zero, family) if weight.ndim > 1]
    assert len(outputs) == (2 * 2 + 2 * 3 if family.is_encoder_decoder else 2 * 2)
    assert not any(weight.any() for weight in outputs)
    if family.is_causal:
        tokens = torch.arange(6, 20)[None]
        hidden = zero(tokens, output_hidden_states=True).hidden_states
        assert torch.equal(hidden[0], hidden[1])
    plain, scaled = tiny(name), tiny(name, scale_residual=True)
    ratios = [
        (small.std() / large.std()).item()
        for small, large in zip(residual_outputs(scaled, family), residual_outputs(plain, family), strict=True)
        if small.ndim > 1
    ]
    assert ratios == pytest.approx([1.0 if name in ("gpt2", "modernbert") else 0.5] * len(ratios))


def test_gpt2_scales_its_projections_itself() -> None:
    model = tiny("gpt2", hidden=128)
    for weight in residual_outputs(model, FAMILIES["gpt2"]):
        if weight.ndim > 1:
            assert weight.std().item() == pytest.approx(0.02 / math.sqrt(2 * 2), rel=0.03)


def test_sinusoids() -> None:
    """The paper's formula, position by position; the table does not learn."""
    table = sinusoids(7, 8)
    for position in range(7):
        for pair in range(4):
            angle = position / 10000 ** (2 * pair / 8)
            assert table[position, pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 4 + pair].item() == pytest.approx(math.cos(angle), abs=1e-6)
    for name in ("gpt2", "opt", "bert", "roberta", "electra", "bart"):
        frozen = [p for p in tiny(name, positions="sinusoidal").parameters() if not p.requires_grad]
        assert len(frozen) == (2 if name == "bart" else 1)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "opt"])
def test_coordinate_check(name: str, tied: bool) -> None:
    """Of Tensor Programs V, appendix D.1: logits after four steps of Adam, widths 32 to 512, heads of one size.

    Under muP they stay of one size; without it they grow with the width.
    """
    grown = {base: logits_size(name, 512, base, tied) / logits_size(name, 32, base, tied) for base in (None, 32)}
    assert grown[32] < 2
    assert grown[None] > 3


def logits_size(name: str, width: int, base: int | None, tied: bool) -> float:
    """The change of the logits by four steps, root of the mean square."""
    choices = {"tie_embeddings": tied, **({"mup_base_width": base} if base else {})}
    model = tiny(name, hidden=width, heads=width // 8, **choices)
    scales = learning_rate_multipliers(model, FAMILIES[name], base) if base else {}
    groups = [{"params": [weight], "lr": 0.01 * scales.get(key, 1.0)} for key, weight in model.named_parameters()]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    tokens = torch.randint(6, VOCABULARY, (4, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = model(tokens, use_cache=False).logits
    for _ in range(4):
        optimizer.zero_grad()
        model(tokens, labels=tokens, use_cache=False).loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float((model(tokens, use_cache=False).logits - first).square().mean().sqrt())


def test_rates_of_muon_fall_with_the_root_of_the_width() -> None:
    """Its updates have singular values of one size, Adam's entries of one size (tasks.architectures.building.mup)."""
    model = tiny("llama", hidden=128)
    inner = frozenset(name for name, *_ in block_matrices(model, FAMILIES["llama"]))
    scales = learning_rate_multipliers(model, FAMILIES["llama"], 32, inner)
    assert scales["model.layers.0.mlp.up_proj.weight"] == 0.5
    assert scales["model.norm.weight"] == 0.25
    assert scales["model.embed_tokens.weight"] == scales["model.layers.0.input_layernorm.weight"] == 1.0
