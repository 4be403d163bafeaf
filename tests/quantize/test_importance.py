"""Importance: mean squares as they are by hand, over all that training holds, the same on other machines."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.conversations.conversation import SCHEMA
from tasks.documents.shards import SCHEMA as DOCUMENTS
from tasks.documents.shards import write_shard
from tasks.quantize.importance import STEPS_AN_OCTAVE, calibration_sequences, column_importance, rounded
from tasks.tokens.chat_encoder import ChatEncoder
from tests.helpers.tiny import conversation, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")
STEP = 2 ** (0.5 / STEPS_AN_OCTAVE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("model")
    tiny_model(folder)
    return folder


def test_they_are_the_mean_squares_of_what_goes_in(folder: Path) -> None:
    """Of every linear layer, its head too; a row that is filled up counts its own tokens only."""
    from tasks.model.load import load_model

    model, sequences = load_model(folder, "cpu"), [[0, 5, 9, 200, 31], [0, 7]]
    found = column_importance(model, sequences, pad=1)
    assert len(found) == 2 * 7 + 1
    with torch.inference_mode():
        states = [model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0] for ids in sequences]
    expected = torch.cat(states).square().mean(0).numpy()
    assert np.abs(np.log(found["lm_head.weight"] / expected)).max() < np.log(STEP) + 1e-4
    assert found["model.layers.0.mlp.down_proj.weight"].shape == (128,)
    assert not model.lm_head._forward_pre_hooks


def test_steps_hide_the_last_bits() -> None:
    values = np.random.default_rng(0).lognormal(0, 5, 1000)
    assert np.array_equal(rounded(values), rounded(values * (1 + 1e-12)))
    assert np.abs(np.log(rounded(values) / values)).max() < np.log(STEP) + 1e-6
    assert rounded(np.array([0.0, 4.0, 1.0])).tolist() == [1.0, 4.0, 1.0]
    assert rounded(np.zeros(2)).tolist() == [1.0, 1.0]


def test_every_shard_has_its_share(folder: Path, tmp_path: Path) -> None:
    encoder = ChatEncoder(folder)
    for name, first in (("00000", 0), ("00001", 50)):
        rows = [
            {"id": f"{n}", "source": "toy", "kind": "conversation", "messages": conversation(n)}
            for n in range(first, first + 40)
        ]
        write_shard(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / f"chats/{name}.parquet")
    sequences = calibration_sequences(encoder, tmp_path / "chats", tmp_path, tokens=100, context=30)
    assert sum(map(len, sequences)) == 100
    assert max(map(len, sequences)) <= 30
    whole = [encoder.join(encoder.turns([conversation(number)])[0]).ids for number in (0, 50)]
    assert sequences[0] == whole[0][:30]
    assert whole[1][:30] in sequences


def test_documents_take_the_place_of_chats_and_what_is_held_out_stays_out(folder: Path, tmp_path: Path) -> None:
    encoder = ChatEncoder(folder)
    schema = DOCUMENTS.append(pa.field("split", pa.string()))
    rows: list[dict[str, Any]] = [
        {"id": "1", "source": "s", "text": "held out", "split": "validation"},
        {"id": "2", "source": "s", "text": "the cat likes the sea", "split": "train"},
    ]
    write_shard(pa.Table.from_pylist(rows, schema=schema), tmp_path / "documents/00000.parquet")
    write_shard(pa.Table.from_pylist([], schema=SCHEMA), tmp_path / "none/00000.parquet")
    expected = [[encoder.start, *encoder.texts(["the cat likes the sea"])[0]]]
    for chats in (None, tmp_path / "none"):
        assert calibration_sequences(encoder, chats, tmp_path / "documents", 1000, 128) == expected
