from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs the tests of a module where execution.yaml asks for one worker."""
    folder = tmp_path_factory.mktemp("one-worker")
    (folder / "execution.yaml").write_text("workers: 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield
