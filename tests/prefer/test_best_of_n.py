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
from tasks.prefer.replies import Reply
from tasks.prefer.reply_checks import ReplyChecks
from tasks.tokens.chat_encoder import ChatEncoder
from tests.helpers import tuning
from tests.helpers.tuning import digests, interrupted_while_saving

SMALL: dict[str, Any] = {"method": "best_of_n", "max_new_tokens": 12, "held_out": 12}
BEST_OF_N: dict[str, Any] = {"contexts": 24, "samples": 4}
DPO: dict[str, Any] = {"batch": 8, "learning_rate": 1e-3}
ENDED = {"ended": 1, "length": 0, "fresh": 0, "related": 0, "closed": 0}
pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_a_pair_is_the_best_and_the_worst_of_its_context(
    tuned: Path, data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of equals the first; contexts of which all earn alike are left out. Replies say here what they earn."""
    said = iter(["0.2", "0.9", "0.9", "0.1", "0.5", "0.5", "0.5", "0.5", "0", "0", "1", "0.4"])

    def drawn(_: Any, __: Any, prompts: list[list[int]], *rest: Any) -> list[Reply]:
        return [Reply([number], next(said), True) for number in range(len(prompts))]

    monkeypatch.setattr(best_of_n, "TOGETHER", 4)
    monkeypatch.setattr(best_of_n, "draw_replies", drawn)
    monkeypatch.setattr(ReplyChecks, "passed", lambda _, __, reply, ___: {"is": float(reply)})
    monkeypatch.setattr(ReplyChecks, "score", lambda _, passed: passed["is"])
    model, encoder = load_model(tuned, "cpu"), ChatEncoder(tuned)
    params = validate(PreferParams, {**SMALL, "best_of_n": BEST_OF_N}, "prefer")
    messages = read_messages(data["train"])
    contexts = choose_contexts(messages, encoder, 100, 3, 0)
    found = best_of_n.draw_pairs(params, model, encoder, contexts, ReplyChecks.of(params.reward, messages), 12)
    assert [(pair.chosen, pair.rejected) for pair in found.pairs] == [([1], [3]), ([2], [0])]
    assert [pair.prompt for pair in found.pairs] == [encoder.prompt(contexts[n].messages, 116) for n in (0, 2)]
    assert found.metrics == {
        "replies": 12,
        "contexts_that_differ": 2,
        "reward_mean": pytest.approx((2.1 + 2.0 + 1.4) / 12, abs=1e-6),
        "reward_best": pytest.approx((0.9 + 0.5 + 1) / 3, abs=1e-6),
        "reward_worst": pytest.approx((0.1 + 0.5 + 0) / 3, abs=1e-6),
    }


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
