"""The model that is served: which file it is, and why there is none."""

from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.paths import write_json
from tasks.serving import chat
from tasks.serving.model_file import find_model


def test_a_model_that_no_gguf_holds_is_not_served_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/quantize"
    (folder / "torchao-int8").mkdir(parents=True)
    write_json(folder / "table.json", {"formats": {"torchao-int8": {}}})
    with pytest.raises(UserError, match=r"holds no GGUF model\. Name one in params\.yaml, quantize\.formats"):
        find_model()
    write_json(folder / "table.json", {"passed_over": {"q8_0": "GGUF export knows Llama models, this is 'bert'"}})
    with pytest.raises(UserError, match=r"this is 'bert'.* It is neither chatted with nor served"):
        find_model()
    assert chat.main([]) == 2
    assert "this is 'bert'" in capsys.readouterr().err
