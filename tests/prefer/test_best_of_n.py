"""Best of n: which replies make a pair, what the model learns from them, and that all is repeatable."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.model.curves import read_curves
from tasks.model.load import load_model
from tasks.prefer import best_of_n
from tasks.prefer.contexts import choose_contexts, read_messages
from tasks.prefer.params import BestOfNParams, DpoParams, PreferParams
from tasks.prefer.reply_checks import ReplyChecks
from tasks.tokens.chat_encoder import ChatEncoder
from tests.helpers import tuning
from tests.helpers.tiny import conversation, conversations
from tests.helpers.tuning import digests, interrupted_while_saving

SMALL: dict[str, Any] = {"method": "best_of_n", "max_new_tokens": 12, "held_out": 12}
BEST_OF_N: dict[str, Any] = {"contexts": 24, "samples": 4}
DPO: dict[str, Any] = {"batch": 8, "learning_rate": 1e-3}
ENDED = {"ended": 1, "length": 0, "fresh": 0, "related": 0, "closed": 0}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {
        "train": conversations(folder / "train", [conversation(seed, 2 + seed % 9) for seed in range(40)]),
        "held_out": conversations(folder / "held_out", [conversation(seed, 4) for seed in range(90, 130)]),
    }


def prefer(folder: Path, tuned: Path, data: dict[str, Path], **changes: Any) -> tuple[Path, dict[str, Any]]:
    of_n = {name: changes.pop(name) for name in BestOfNParams.model_fields if name in changes}
    dpo = {name: changes.pop(name) for name in DpoParams.model_fields if name in changes}
    return tuning.prefer(folder, tuned, data, {**SMALL, **changes, "best_of_n": BEST_OF_N | of_n, "dpo": DPO | dpo})


@pytest.mark.parametrize("learn_from", ["pairs", "best"])
def test_replies_come_to_earn_more(tmp_path: Path, tuned: Path, data: dict[str, Path], learn_from: str) -> None:
    changes = {"reward": ENDED, "max_new_tokens": 6, "held_out": 40, "epochs": 6, "learn_from": learn_from}
    root, metrics = prefer(tmp_path, tuned, data, **changes)
    held = metrics["held_out"]
    assert held["after"]["ended"] > held["before"]["ended"] + 0.1
    assert metrics["reward_worst"] < metrics["reward_mean"] < metrics["reward_best"] <= 1
    assert metrics["replies"] == 4 * 24
    assert 0 < metrics["contexts_that_differ"] <= 24
    assert metrics["steps"] == -(-6 * metrics["contexts_that_differ"] // 8)
    assert "pairs" not in metrics  # those are people's
    assert metrics["held_out_pairs"] is None
    assert len(read_curves(root / "curves.csv")) == metrics["steps"]


def test_all_is_repeatable_and_an_interruption_changes_nothing(
    tmp_path: Path, tuned: Path, data: dict[str, Path]
) -> None:
    whole, metrics = prefer(tmp_path / "whole", tuned, data, epochs=3)
    with interrupted_while_saving(4):
        prefer(tmp_path / "again", tuned, data, epochs=3)
    continued, same = prefer(tmp_path / "again", tuned, data, epochs=3)
    assert same == metrics
    assert digests(continued) == digests(whole)
    other, _ = prefer(tmp_path / "other", tuned, data, epochs=3, seed=1)
    assert digests(other)["model.safetensors"] != digests(whole)["model.safetensors"]


def test_a_pair_is_the_best_and_the_worst_of_its_context(tuned: Path, data: dict[str, Path]) -> None:
    """Asked again one by one, no other reply to the same context earns more or less; contexts of which all earn alike are out."""
    model, encoder = load_model(tuned, "cpu"), ChatEncoder(tuned)
    params = validate(PreferParams, {**SMALL, "best_of_n": BEST_OF_N}, "prefer")
    said = read_messages(data["train"])
    contexts, checks = choose_contexts(said, encoder, 100, 24, 0), ReplyChecks.of(params.reward, said)
    drawn = best_of_n.draw_pairs(params, model, encoder, contexts, checks, 12)
    by_prompt = {tuple(encoder.prompt(context.messages, 116)): context for context in contexts}

    def score(prompt: list[int], ids: list[int]) -> float:
        ended = ids[-1] == encoder.turn_end
        text = encoder.decode(ids[:-1] if ids[-1] in encoder.stop_ids else ids).strip()
        return checks.score(checks.passed(by_prompt[tuple(prompt)].messages, text, ended))

    assert drawn.pairs
    best, worst = (
        [score(pair.prompt, side) for pair, side in sides]
        for sides in ([(pair, pair.chosen) for pair in drawn.pairs], [(pair, pair.rejected) for pair in drawn.pairs])
    )
    assert all(high > low for high, low in zip(best, worst, strict=True))
    if len(drawn.pairs) == len(contexts):
        assert sum(best) / len(best) == pytest.approx(drawn.best)
        assert sum(worst) / len(worst) == pytest.approx(drawn.worst)


def test_the_best_alone_is_learned_by_its_own_loss(tmp_path: Path, tuned: Path, data: dict[str, Path]) -> None:
    """The first loss is the mean over the batch's best replies of what they cost the tuned model, nats a token."""
    changes = {"learn_from": "best", "batch": 64, "contexts": 10}
    root, metrics = prefer(tmp_path, tuned, data, **changes)
    model, encoder = AutoModelForCausalLM.from_pretrained(tuned).eval(), ChatEncoder(tuned)
    params = validate(PreferParams, {**SMALL, "best_of_n": BEST_OF_N | {"contexts": 10}}, "prefer")
    said = read_messages(data["train"])
    contexts = choose_contexts(said, encoder, 128 - 12, 10, 0)
    drawn = best_of_n.draw_pairs(params, model, encoder, contexts, ReplyChecks.of(params.reward, said), 12)
    nats = tokens = 0.0
    for pair in drawn.pairs:
        ids = torch.tensor([[*pair.prompt, *pair.chosen]])
        with torch.inference_mode():
            logps = torch.log_softmax(model(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])
        nats -= float(logps[len(pair.prompt) - 1 :].sum())
        tokens += len(pair.chosen)
    assert metrics["contexts_that_differ"] == len(drawn.pairs)
    assert float(read_curves(root / "curves.csv")[0]["loss"]) == pytest.approx(nats / tokens, rel=1e-3)


def test_replies_that_all_earn_the_same_are_an_error(
    tmp_path: Path, tuned: Path, data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReplyChecks, "score", lambda *_: 0.5)
    with pytest.raises(UserError, match=r"nothing to learn.*prefer\.best_of_n\.samples"):
        prefer(tmp_path, tuned, data)


def test_fewer_contexts_than_asked_for(
    tmp_path: Path, tuned: Path, data: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    _, metrics = prefer(tmp_path, tuned, data, contexts=5000, samples=2)
    assert metrics["replies"] < 400
    assert f"prefer.best_of_n.contexts: there are {metrics['replies'] // 2}" in caplog.text
