"""Learning rates by step; Muon and AdamW against PyTorch's own; NorMuon, fused maps, experts and cautious decay by what they promise."""

import pytest
import torch
from torch import nn

from tasks.architectures.families.table import FAMILIES
from tasks.architectures.roles import Weight, weight_roles
from tasks.pretrain.learner import Learner
from tasks.pretrain.optimizers.fragments import Fragment
from tasks.pretrain.optimizers.muon import Orthogonaliser
from tasks.pretrain.optimizers.newton_schulz import join_maps, linear_maps, newton_schulz
from tasks.pretrain.optimizers.optimizer import MixedOptimizer
from tasks.pretrain.optimizers.schedule import learning_rate
from tests.helpers.architectures import ids_of, trained_pair
from tests.helpers.pretraining import params


def rates(**changes) -> list[float]:
    chosen = params(learning_rate=1.0, **changes)
    return [learning_rate(chosen, step) for step in range(chosen.steps)]


def test_schedules():
    wsd = {"steps": 10, "warmup_steps": 2, "decay_fraction": 0.4}
    assert rates(**wsd) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert rates(**wsd, final_rate=0.2) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4])
    assert rates(steps=4, warmup_steps=0, schedule="cosine") == pytest.approx([1, 0.8535534, 0.5, 0.1464466])
    assert rates(steps=4, warmup_steps=0, schedule="linear") == pytest.approx([1, 0.75, 0.5, 0.25])
    assert params(**wsd).stable_steps == 6


class Small(nn.Module):
    """A model of one matrix and one bias, with what `weight_roles` asks for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(10, 24)
        self.config = None

    def get_output_embeddings(self) -> None:
        return None


def optimize(steps: int = 5, **changes) -> tuple[Small, MixedOptimizer]:
    model = Small()
    optimizer = MixedOptimizer(model, params(**{"weight_decay": 0.1, "learning_rate": 0.01, **changes}))
    pieces = [Fragment(n, tuple(p.shape), p, 0, 0, p.numel()) for n, p in model.named_parameters()]
    optimizer.bind(pieces, False, torch.device("cpu"))
    for gradient in gradients(steps):
        model.linear.weight.grad, model.linear.bias.grad = gradient.clone(), gradient[:, 0].clone()
        optimizer.prepare(0.01, 1.0, skip=False)
        optimizer.step()
    return model, optimizer


def gradients(steps: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(24, 10) for _ in range(steps)]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("muon", lambda p: torch.optim.Muon([p], 0.01, 0.1, adjust_lr_fn="match_rms_adamw")),
        ("adamw", lambda p: torch.optim.AdamW([p], 0.01, (0.9, 0.95), weight_decay=0.1)),
    ],
)
def test_it_is_torchs(name, theirs):
    ours, _ = optimize(optimizer=name)
    other = Small()
    optimizer = theirs(other.linear.weight)
    bias = torch.optim.AdamW([other.linear.bias], 0.01, (0.9, 0.95), weight_decay=0.0)
    for gradient in gradients(5):
        other.linear.weight.grad, other.linear.bias.grad = gradient.clone(), gradient[:, 0].clone()
        optimizer.step()
        bias.step()
    tolerance = 3e-3 if name == "muon" else 1e-6  # theirs computes in bf16
    assert torch.allclose(ours.linear.weight, other.linear.weight, atol=tolerance)
    assert torch.allclose(ours.linear.bias, other.linear.bias, atol=1e-6)


def test_a_skipped_step_changes_nothing():
    model, optimizer = optimize(steps=2, optimizer="normuon")
    before = {name: p.clone() for name, p in model.named_parameters()}
    state = {key: {k: v.clone() for k, v in kinds.items()} for key, kinds in optimizer.state.items()}
    optimizer.prepare(0.01, 1.0, skip=True)
    optimizer.step()
    assert optimizer.updates == 2
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert all(torch.equal(state[key][k], v) for key, kinds in optimizer.state.items() for k, v in kinds.items())


def test_normuon_makes_neurons_alike_and_keeps_the_size():
    torch.manual_seed(0)
    direction = torch.randn(32, 16) * torch.logspace(-2, 0, 32)[:, None]
    sizes = {}
    for normalise in (False, True):
        made = Orthogonaliser({"w": Weight("matrix")}, {"w": (32, 16)}, normalise, beta2=0.95)
        for _ in range(20):
            ((_, update),) = made.updates(["w"], {"w": direction.flatten()}, {})
        rows = update.view(32, 16).square().mean(-1).sqrt()
        sizes[normalise] = rows.std() / rows.mean()
        assert update.square().mean().sqrt() == pytest.approx(0.2, rel=0.2)
    assert sizes[True] < 0.05 < 0.3 < sizes[False]


def test_what_is_fused_is_orthogonalised_apart():
    torch.manual_seed(0)
    parts = [torch.randn(8, 12), 100 * torch.randn(8, 12), torch.randn(8, 12)]
    fused = Weight("matrix", blocks=(8, 8, 8))
    made = Orthogonaliser({"w": fused}, {"w": (24, 12)}, False, 0.95)
    ((_, update),) = made.updates(["w"], {"w": torch.cat(parts).flatten()}, {})
    for ours, part in zip(update.view(3, 8, 12), parts, strict=True):
        assert torch.allclose(ours, newton_schulz(part) * 0.2 * 12**0.5, atol=1e-5)
    experts = torch.randn(3, 6, 4)
    assert torch.allclose(newton_schulz(experts)[1], newton_schulz(experts[1]), atol=1e-5)


@pytest.mark.parametrize(
    "weight",
    [
        Weight("matrix"),
        Weight("matrix", output_last=True, blocks=(4, 4, 4)),
        Weight("matrix", blocks=(4, 1, 1), repeats=2),
    ],
)
def test_maps_are_taken_apart_and_joined(weight):
    tensor = torch.arange(144.0).view(12, 12)
    assert torch.equal(join_maps(linear_maps(tensor, weight), weight), tensor)


def test_falcons_groups_are_queries_keys_and_values():
    grouped = torch.arange(12.0)[:, None]  # two groups of: four outputs of queries, one of keys, one of values
    queries, keys, values = linear_maps(grouped, Weight("matrix", blocks=(4, 1, 1), repeats=2))
    assert queries.flatten().tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    assert keys.flatten().tolist() == [4, 10]
    assert values.flatten().tolist() == [5, 11]


def test_cautious_decay_leaves_alone_what_the_update_pushes_back():
    plain, _ = optimize(steps=1, optimizer="muon", weight_decay=50.0)
    cautious, _ = optimize(steps=1, optimizer="muon", weight_decay=50.0, cautious_decay=True)
    without, _ = optimize(steps=1, optimizer="muon", weight_decay=0.0)
    first = Small().linear.weight
    decayed = (first - without.linear.weight) * first >= 0
    assert decayed.any()
    assert not decayed.all()
    assert torch.equal(cautious.linear.weight[decayed], plain.linear.weight[decayed])
    assert torch.equal(cautious.linear.weight[~decayed], without.linear.weight[~decayed])


def test_roles_go_by_what_a_weight_does():
    from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

    tiny = {"vocab_size": 40, "bos_token_id": 0, "eos_token_id": 0}
    gpt2 = weight_roles(GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=8, **tiny)))
    assert gpt2["transformer.wte.weight"].role == gpt2["transformer.wpe.weight"].role == "embedding"
    assert gpt2["transformer.h.0.attn.c_attn.weight"] == Weight("matrix", True, (16, 16, 16))
    assert gpt2["transformer.h.0.ln_1.weight"].role == gpt2["transformer.h.0.attn.c_attn.bias"].role == "vector"
    config = MixtralConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
        tie_word_embeddings=False,
        **tiny,
    )
    mixtral = weight_roles(MixtralForCausalLM(config))
    assert mixtral["lm_head.weight"].role == "head"
    assert mixtral["model.layers.0.mlp.experts.gate_up_proj"] == Weight("matrix", blocks=(24, 24))
    assert mixtral["model.layers.0.mlp.experts.down_proj"].role == "matrix"


def test_a_familys_own_rates_are_those_of_the_optimizer():
    """T5's biases of relative positions learn at 30 times the rate, whatever embeddings do; all others at their role's."""
    model, objective = trained_pair("t5")
    learner = Learner(model, FAMILIES["t5"], objective, ids_of(FAMILIES["t5"]), 32)
    chosen = params(family="t5", kv_heads=4, rates={"embedding": 3.0})
    optimizer = MixedOptimizer(model, chosen, learner.rate_multipliers(chosen))
    rates = {
        name: group["rate"]
        for group, names in zip(optimizer.param_groups, optimizer.names, strict=True)
        for name in names
    }
    biases = {name for name in rates if "relative_attention_bias" in name}
    assert len(biases) == 2  # the encoder's and the decoder's, of their first blocks
    assert {rates.pop(name) for name in biases} == {30.0}
    assert rates.pop("shared.weight") == 3.0
    assert set(rates.values()) == {1.0}


def half_of(flat: torch.Tensor, number: int) -> torch.Tensor:
    half = torch.zeros_like(flat)
    start, end = number * len(flat) // 2, (number + 1) * len(flat) // 2
    half[start:end] = flat[start:end]
    return half


def test_no_rank_counts_for_what_a_matrix_becomes(monkeypatch):
    """Two ranks with halves of two matrices, played one after the other, come to what one with the whole does."""
    torch.manual_seed(0)
    shapes = {"a": (6, 4), "b": (4, 6)}
    whole = {name: torch.randn(shape).flatten() for name, shape in shapes.items()}
    alone = Orthogonaliser({name: Weight("matrix") for name in shapes}, shapes, True, 0.95)
    expected = {name: update.clone() for name, update in alone.updates(list(shapes), whole, {})}
    halves = [
        {name: Fragment(name, shapes[name], torch.empty(12), 0, 12 * rank, 12) for name in shapes} for rank in (0, 1)
    ]
    flat = torch.cat(list(whole.values()))
    for rank in (0, 1):
        calls = []

        def all_reduce(tensor, calls=calls, rank=rank):
            calls.append(1)
            if len(calls) == 1:  # each brings its halves, and zeros
                assert torch.equal(tensor, torch.cat([half_of(whole[name], rank) for name in shapes]))
                tensor.copy_(flat)
            else:  # each brings the update of the matrix that it owns, and zeros
                own = [update if number == rank else 0 * update for number, update in enumerate(expected.values())]
                assert torch.equal(tensor, torch.cat(own))
                tensor.copy_(torch.cat(list(expected.values())))

        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
        monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
        made = Orthogonaliser({name: Weight("matrix") for name in shapes}, shapes, True, 0.95)
        made.sharded = True
        mine = {name: whole[name][12 * rank : 12 * rank + 12] for name in shapes}
        for name, update in made.updates(list(shapes), mine, halves[rank]):
            assert torch.equal(update, expected[name][12 * rank : 12 * rank + 12])
        assert {key.split("/")[0] for key in made.second_moments} == {"ab"[rank]}
