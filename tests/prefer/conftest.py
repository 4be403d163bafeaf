"""A small model that was tuned, which every test of preference tuning begins with."""

from pathlib import Path

import pytest

from tests.helpers.tiny import tiny_model


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("finetune")
    tiny_model(folder, train_steps=30)
    return folder
