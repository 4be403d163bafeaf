"""Held-out replies: the same loss as transformers gives for the assistant's tokens, whatever the batch."""

import math
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from tasks.documents.shards import write_shard
from tasks.evaluate import reply_loss
from tasks.tokens.chat_encoder import ChatEncoder
from tests.helpers.tiny import conversation, tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("model")
    tiny_model(folder, train_steps=20)
    rows = [{"id": f"{n:02}", "kind": "conversation", "messages": conversation(n, 2 + 2 * (n % 3))} for n in range(12)]
    rows.append({"id": "99", "kind": "question", "messages": conversation(99, 2)})
    (folder / "held_out").mkdir()
    write_shard(pa.Table.from_pylist(rows), folder / "held_out" / "00000.parquet")
    return folder


def test_the_loss_is_that_of_transformers(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    encoder = ChatEncoder(folder)
    dialogues = reply_loss.held_out_replies(folder / "held_out", encoder, 128, 1 << 20)
    assert len(dialogues.windows) == 12  # no question
    nats = tokens = size = text_nats = 0.0
    for n in range(12):
        turns = conversation(n, 2 + 2 * (n % 3))
        encoded = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
        ids, mask = torch.tensor([encoded["input_ids"]]), torch.tensor(encoded["assistant_masks"]).bool()
        labels = ids.masked_fill(~mask, -100)
        with torch.inference_mode():
            nats += float(model(ids, labels=labels).loss) * int(mask.sum())
            text_nats += float(model(ids, labels=labels.masked_fill(ids == encoder.turn_end, -100)).loss) * int(
                (mask & (ids[0] != encoder.turn_end)).sum()
            )
        tokens += int(mask.sum())
        size += sum(len(turn["content"].encode()) for turn in turns if turn["role"] == "assistant")
    score = reply_loss.reply_score(reply_loss.window_scores(model, dialogues.windows, encoder, "score"))
    assert (score["tokens"], score["bytes"]) == (tokens, size)
    assert score["loss"] == pytest.approx(nats / tokens, abs=1e-5)
    assert score["bits_per_byte"] == pytest.approx(text_nats / math.log(2) / size, abs=1e-5)


def test_no_more_is_scored_than_asked_for(folder: Path) -> None:
    encoder = ChatEncoder(folder)
    sizes = [
        len(reply_loss.held_out_replies(folder / "held_out", encoder, 128, most).windows) for most in (1, 200, 1 << 20)
    ]
    assert sizes[0] == 1
    assert 1 < sizes[1] < sizes[2] == 12
