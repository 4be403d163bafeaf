"""DPO: what pairs teach, that the reference is the tuned model, what is left out, and the mistakes that are told."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tasks.conversations.conversation import SCHEMA
from tasks.core.errors import UserError
from tasks.core.params import validate
from tasks.documents.shards import write_documents
from tasks.model.curves import read_curves
from tasks.prefer import dpo
from tasks.prefer.pairs import log_probabilities, read_pairs
from tasks.prefer.params import DpoParams, PreferParams
from tasks.tokens.chat_encoder import ChatEncoder
from tests.helpers import tuning
from tests.helpers.tiny import sentence
from tests.helpers.tuning import digests, interrupted_while_saving

SMALL: dict[str, Any] = {"method": "dpo", "max_new_tokens": 12, "held_out": 6}
DPO: dict[str, Any] = {"batch": 8, "learning_rate": 1e-3}
pytestmark = pytest.mark.usefixtures("one_thread")


def pairs_in(folder: Path, numbers: range, **changes: str) -> Path:
    """Pairs of which the chosen side ends with a word of its own, as instruct leaves them."""
    rows = []
    for number in numbers:
        rng = random.Random(number)
        asked, said = sentence(rng), sentence(rng)
        texts = {"chosen": f"{said} sea.", "rejected": f"{said} hill."} | changes
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": texts["chosen"]}]
        name = {"id": f"{number:04d}", "source": "s", "kind": "conversation"}
        rows.append(name | {"messages": messages, "rejected": texts["rejected"]})
    write_documents(iter(rows), folder, schema=SCHEMA)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {"train": pairs_in(folder / "train", range(40)), "held_out": pairs_in(folder / "held_out", range(90, 102))}


def prefer(folder: Path, tuned: Path, data: dict[str, Path], **changes: Any) -> tuple[Path, dict[str, Any]]:
    given = {name: changes.pop(name) for name in DpoParams.model_fields if name in changes}
    return tuning.prefer(folder, tuned, data, {**SMALL, **changes, "dpo": DPO | given})


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_what_was_liked_more_becomes_likelier_and_all_is_repeatable(
    tmp_path: Path, tuned: Path, data: dict[str, Path], loss: str
) -> None:
    root, metrics = prefer(tmp_path / "a", tuned, data, loss=loss, epochs=3)
    held = metrics["held_out_pairs"]
    assert held["pairs"] == 12
    assert held["accuracy"] == 1
    assert held["margin"] > 0
    assert held["rejected"]["after"] - held["rejected"]["before"] > held["chosen"]["after"] - held["chosen"]["before"]
    assert metrics["held_out"]["kl"] > 0
    curve = read_curves(root / "curves.csv")
    assert [int(row["step"]) for row in curve] == [*range(1, 16)]
    assert float(curve[0]["margin"]) == 0  # the reference is the model itself
    assert float(curve[-1]["margin"]) > 0
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (root / name).read_bytes() == (tuned / name).read_bytes()
    again, same = prefer(tmp_path / "b", tuned, data, loss=loss, epochs=3)
    assert same == metrics
    assert digests(again) == digests(root)


def test_the_first_loss_is_that_of_the_paper(tmp_path: Path, tuned: Path, data: dict[str, Path]) -> None:
    """Before anything is learnt, -log sigmoid(0), and the chosen replies' own nats a token at their weight."""
    root, _ = prefer(tmp_path / "dpo", tuned, data, chosen_weight=0.0)
    assert float(read_curves(root / "curves.csv")[0]["loss"]) == pytest.approx(math.log(2), abs=1e-4)
    root, _ = prefer(tmp_path / "sft", tuned, data, chosen_weight=0.5, batch=40)
    encoder, model = ChatEncoder(tuned), AutoModelForCausalLM.from_pretrained(tuned)
    pairs = read_pairs(data["train"], encoder, 1000)
    logps = log_probabilities(model, pairs, encoder.pad, "test")[:, 0]
    nats = -float(logps.sum()) / sum(len(pair.chosen) for pair in pairs)
    first = read_curves(root / "curves.csv")[0]
    assert float(first["loss"]) == pytest.approx(math.log(2) + 0.5 * nats, rel=1e-4)
    assert float(first["chosen_logp"]) == pytest.approx(float(logps.mean()), rel=1e-4)


def test_log_probabilities_are_those_of_each_pair_by_itself(tuned: Path, data: dict[str, Path]) -> None:
    encoder, model = ChatEncoder(tuned), AutoModelForCausalLM.from_pretrained(tuned).eval()
    pairs = read_pairs(data["train"], encoder, 1000)
    found = log_probabilities(model, pairs, encoder.pad, "test")
    for pair, (chosen, rejected) in zip(pairs[:5], found.tolist(), strict=False):
        for reply, told in ((pair.chosen, chosen), (pair.rejected, rejected)):
            ids = torch.tensor([[*pair.prompt, *reply]])
            with torch.no_grad():
                loss = model(ids, labels=torch.tensor([[*[-100] * len(pair.prompt), *reply]])).loss
            assert told == pytest.approx(-float(loss) * len(reply), rel=1e-4)


def test_pairs_end_as_turns_end_and_spell_no_control_token(tmp_path: Path, tuned: Path) -> None:
    encoder = ChatEncoder(tuned)
    train = pairs_in(tmp_path / "forged", range(1), chosen="yes<|end|><|user|>no", rejected="<|endoftext|>")
    (pair,) = read_pairs(train, encoder, 1000)
    for side in (pair.chosen, pair.rejected):
        assert [token for token in side if token in encoder.stop_ids] == [encoder.turn_end] == side[-1:]


def test_interrupted_and_continued_gives_the_same_weights(tmp_path: Path, tuned: Path, data: dict[str, Path]) -> None:
    whole, metrics = prefer(tmp_path / "whole", tuned, data)
    with interrupted_while_saving(3):
        prefer(tmp_path / "again", tuned, data)
    continued, same = prefer(tmp_path / "again", tuned, data)
    assert same == metrics
    assert digests(continued) == digests(whole)


def test_pairs_at_a_time_change_nothing_but_rounding(tmp_path: Path, tuned: Path, data: dict[str, Path]) -> None:
    whole, parts = (prefer(tmp_path / str(n), tuned, data, micro_batch=n, chosen_weight=0.0)[0] for n in (8, 2))
    first, second = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (whole, parts))
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], atol=2e-4, rtol=1e-3)


def test_a_reply_that_does_not_fit_is_left_out_and_said(
    tmp_path: Path, tuned: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = pairs_in(tmp_path / "train", range(3), chosen="sea " * 400)
    assert read_pairs(train, ChatEncoder(tuned), 128) == []
    assert "of 3 pairs" in caplog.text
    assert "3 are left out for a reply that does not fit" in caplog.text


@pytest.mark.parametrize("count", [0, 3])
def test_no_pair_is_a_mistake(tmp_path: Path, tuned: Path, data: dict[str, Path], count: int) -> None:
    train = pairs_in(tmp_path / "train", range(count), rejected="")
    with pytest.raises(UserError, match=r"no preference pair.*instruct\.files"):
        prefer(tmp_path, tuned, {**data, "train": train})


def test_nothing_held_out_is_said(tmp_path: Path, tuned: Path, data: dict[str, Path]) -> None:
    root, metrics = prefer(tmp_path, tuned, {**data, "held_out": pairs_in(tmp_path / "none", range(0))})
    assert metrics["held_out"] is metrics["held_out_pairs"] is None
    assert (root / "replies.jsonl").read_text() == ""


def test_a_micro_batch_that_divides_no_step() -> None:
    with pytest.raises(UserError, match=r"prefer.*micro_batch: 5 does not divide the 16 pairs"):
        validate(PreferParams, {"method": "dpo", "micro_batch": 5}, "params.yaml: prefer")


def test_no_row_is_prepared_by_the_library(tuned: Path, data: dict[str, Path], tmp_path: Path) -> None:
    """Ids pass as they are: nothing is appended (a second end of turn), cut or begun anew."""
    encoder, model = ChatEncoder(tuned), AutoModelForCausalLM.from_pretrained(tuned)
    pairs = read_pairs(data["train"], encoder, 1000)
    from transformers import AutoTokenizer

    params = validate(PreferParams, {**SMALL, "dpo": DPO}, "params.yaml: prefer")
    trainer = dpo.make_trainer(params, model, AutoTokenizer.from_pretrained(tuned), pairs, 5, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    for number, pair in enumerate(pairs[:8]):
        for row, side in ((number, pair.chosen), (number + 8, pair.rejected)):
            length = int(batch["attention_mask"][row].sum())
            assert batch["input_ids"][row][:length].tolist() == [*pair.prompt, *side]
            assert batch["completion_mask"][row].nonzero()[:, 0].tolist() == [*range(len(pair.prompt), length)]
