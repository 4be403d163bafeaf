from pathlib import Path

import pytest

from tests.helpers.tiny import tiny_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained model and one that was trained longer, as pretrain and finetune leave theirs."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder / "pretrain", train_steps=30)
    tiny_model(folder / "finetune", train_steps=60)
    return {"pretrain": folder / "pretrain", "finetune": folder / "finetune"}
