"""A small model that was tuned, which every test of preference tuning begins with."""

from pathlib import Path

import pytest

from tests.helpers.tiny import conversation, conversations, tiny_model


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("finetune")
    tiny_model(folder, train_steps=30)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Conversations to train on and held-out ones; without pairs."""
    folder = tmp_path_factory.mktemp("data")
    return {
        "train": conversations(folder / "train", [conversation(seed, 2 + seed % 9) for seed in range(40)]),
        "held_out": conversations(folder / "held_out", [conversation(seed, 4) for seed in range(90, 130)]),
    }
