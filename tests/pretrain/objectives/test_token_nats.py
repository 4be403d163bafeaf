"""The loss in chunks of positions is the loss: the same values and gradients in every family, without logits of the whole batch."""

import numpy as np
import pytest
import torch

from tasks.architectures.families.table import FAMILIES
from tasks.pretrain.data_loader import IGNORE_INDEX
from tasks.pretrain.objectives import token_nats
from tasks.pretrain.objectives.objective import row_generators
from tasks.pretrain.objectives.replaced_token import DRAWS, draw
from tasks.pretrain.objectives.router_balance import load_balancing_loss
from tests.helpers.architectures import joined, loss_of, packed, tensors, tiny, trained_pair


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "electra"])
def test_chunks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_nats, "CHUNK_POSITIONS", 7)
    batch = packed([11, 2, 12, 4], np.random.default_rng(0), rows=3)
    results = []
    for chunked_from in (1 << 30, 1):
        model, objective = trained_pair(name, chunked_from=chunked_from, z_loss=0.1)
        inputs = objective.collate(batch, row_generators(0, 0, range(3)))
        nats, extras = objective.nats(model, tensors(inputs))
        (nats.sum() + 0.1 * extras["z_loss"]).backward()
        gradient = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        results.append((nats.detach(), extras["z_loss"].detach(), gradient))
    (whole, z, gradients), (chunked, other_z, others) = results
    assert torch.allclose(whole, chunked, atol=1e-5)
    assert torch.allclose(z, other_z, rtol=1e-5)
    assert gradients.keys() == others.keys()
    for key, gradient in gradients.items():
        assert torch.allclose(gradient, others[key], atol=1e-5), key


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_z_loss_is_the_square_of_the_log_of_the_normaliser(name: str) -> None:
    """Value and gradient against logsumexp, over the positions with a label alone; without a weight there is none."""
    batch = packed([11, 2, 12], np.random.default_rng(0), rows=2)
    gradients = []
    for ours in (True, False):
        model, objective = trained_pair(name, z_loss=0.01)
        inputs = objective.collate(batch, row_generators(0, 0, range(2)))
        seen: list[torch.Tensor] = []
        model.get_output_embeddings().register_forward_hook(lambda *given, seen=seen: seen.append(given[2]))
        nats, extras = objective.nats(model, tensors(inputs))
        labels = torch.from_numpy(inputs["labels"]).flatten()
        normalisers = seen[0].flatten(0, 1).logsumexp(-1)[labels != IGNORE_INDEX]
        expected = normalisers.square().sum()
        assert torch.allclose(extras["z_loss"], expected, rtol=1e-5)
        (nats.sum() + 0.01 * (extras["z_loss"] if ours else expected)).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(mine, theirs, atol=1e-5) for mine, theirs in zip(*gradients, strict=True))
    model, objective = trained_pair(name)
    assert not objective.extra_weights
    assert not objective.nats(model, tensors(inputs))[1]


def test_no_logits_of_the_whole_batch_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_nats, "CHUNK_POSITIONS", 8)
    model, objective = trained_pair("llama", chunked_from=1)
    seen = []
    model.lm_head.register_forward_hook(lambda *given: seen.append(given[2].shape[0]))
    batch = packed([20, 9], np.random.default_rng(0), rows=2)
    nats, _ = objective.nats(model, tensors(objective.collate(batch, row_generators(0, 0, [0, 1]))))
    assert max(seen[1:]) <= 8  # the first is asked for nothing: what it is given passes through
    assert int((nats > 0).sum()) == objective.targets(objective.collate(batch, row_generators(0, 0, [0, 1]))) == 58
    assert model.lm_head.forward.__func__ is torch.nn.Linear.forward


@pytest.mark.parametrize("name", FAMILIES)
def test_accumulation_changes_nothing(name: str) -> None:
    """Two halves of a batch, each weighted by what is to predict in the whole, give the gradient of the whole."""
    batch = packed([11, 2, 12, 4], np.random.default_rng(0), rows=4)
    gradients = []
    for parts in ([range(4)], [range(2), range(2, 4)]):
        model, objective = trained_pair(name, z_loss=0.01)
        model.train()
        collated = [
            objective.collate(
                type(batch)(*(array[list(rows)] for array in (batch.input_ids, batch.position_ids, batch.labels))),
                row_generators(0, 0, rows),
            )
            for rows in parts
        ]
        targets = sum(objective.targets(inputs) for inputs in collated)
        for inputs in collated:
            joined(objective, *objective.nats(model, tensors(inputs)), targets, 4).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    scale = max(float(gradient.abs().max()) for gradient in gradients[0])
    for whole, halves in zip(*gradients, strict=True):
        assert (whole - halves).abs().max() < 1e-5 * max(scale, 1)


def test_load_balancing_loss() -> None:
    """Even routing costs `experts_per_token`, all to the same experts `experts`; padding does not count."""
    seen = torch.tensor([[True] * 4, [True, True, False, False]])
    even = torch.full((8, 4), -30.0)
    for place, expert in enumerate([0, 1, 2, 3, 0, 1, 2, 3]):
        even[place, expert] = 0.0
    assert load_balancing_loss([even], seen[:1].expand(2, 4), 1).item() == pytest.approx(2 * 1.0)
    same = torch.zeros(8, 4)
    same[:, 0] = 30.0
    assert load_balancing_loss([same, same], seen, 1).item() == pytest.approx(2 * 4.0)
    changed = same.clone()
    changed[6:, 1] = 60.0
    assert load_balancing_loss([changed], seen, 1) == load_balancing_loss([same], seen, 1)


def test_the_router_of_a_mixture_is_pulled_to_balance() -> None:
    model, objective = trained_pair("mixtral")
    batch = packed([32], np.random.default_rng(0), rows=2)
    inputs = objective.collate(batch, row_generators(0, 0, [0, 1]))
    _, extras = objective.nats(model, tensors(inputs))
    assert list(extras) == list(objective.extra_weights) == ["load_balancing"]
    assert 2 * 2 - 0.5 < extras["load_balancing"].item() < 2 * 8
    extras["load_balancing"].backward()
    assert model.model.layers[0].mlp.gate.weight.grad.abs().max() > 0


def test_the_generator_is_drawn_from() -> None:
    """Of many draws each token's share is its probability; the same draws give the same tokens."""
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]])).expand(20_000, 4)
    draws = torch.from_numpy(np.random.default_rng(0).integers(DRAWS, size=20_000))
    drawn = draw(logits, draws)
    shares = torch.bincount(drawn, minlength=4) / 20_000
    assert torch.allclose(shares, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.02)
    assert torch.equal(drawn, draw(logits, draws))
    assert draw(torch.zeros(1, 3), torch.tensor([DRAWS - 1])).item() == 2


def test_electra_shares_embeddings_and_has_a_small_generator() -> None:
    model, objective = trained_pair("electra", {"generator_share": 0.5})
    generator, discriminator = model.generator.electra, model.discriminator.electra
    assert generator.config.hidden_size == discriminator.config.hidden_size // 2
    assert generator.config.num_hidden_layers == discriminator.config.num_hidden_layers
    assert model.get_output_embeddings().weight is discriminator.embeddings.word_embeddings.weight
    batch = packed([32], np.random.default_rng(0), rows=2)
    loss_of(model, objective, batch).backward()
    assert generator.encoder.layer[0].output.dense.weight.grad.abs().max() > 0
    assert discriminator.encoder.layer[0].output.dense.weight.grad.abs().max() > 0


def test_the_discriminators_loss_is_the_papers() -> None:
    """Binary cross-entropy over all tokens, computed apart; a generator's lucky guess counts as the original."""
    model, objective = trained_pair("electra")
    batch = packed([20, 8], np.random.default_rng(0))
    inputs = objective.collate(batch, row_generators(0, 0, [0]))
    given: list[torch.Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _, __, said: given.append(said["input_ids"]), with_kwargs=True)
    scores: list[torch.Tensor] = []
    model.discriminator.register_forward_hook(lambda *said: scores.append(said[2].logits))
    _, extras = objective.nats(model, tensors(inputs))
    text = batch.input_ids[0] != 1
    replaced = torch.from_numpy((given[0].numpy() != batch.input_ids)[0, text]).float()
    expected = -(
        replaced * scores[0][0, text].sigmoid().log() + (1 - replaced) * (1 - scores[0][0, text].sigmoid()).log()
    ).mean()
    assert extras["replaced_token"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert tiny("electra").config.embedding_size == 32
