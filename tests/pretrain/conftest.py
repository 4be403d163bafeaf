import pytest

from tasks.core.paths import Inputs
from tests.helpers.pretraining import make_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Packed tokens and their tokenizer."""
    return make_inputs(tmp_path_factory.mktemp("inputs"))
