"""Families that are no decoders go the whole way: trained, not tuned, int8, measured by what they were trained to do, reported."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.model.model_pointer import pointer_reason
from tasks.serving.model_file import find_model
from tests.helpers.tiny import conversation
from tests.helpers.whole import TINY, run_stages

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("family", "objective", "kind"),
    [("bert", "masked", "BertForMaskedLM"), ("t5", "span_corruption", "T5ForConditionalGeneration")],
)
def test_a_family_goes_the_whole_way(
    family: str, objective: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "execution.yaml").write_text("workers: 1\nranks: 1\nthreads: 1\ndevice: cpu\n")
    rows = [json.dumps({"messages": conversation(number, 12)}) for number in range(60)]
    (tmp_path / "talks.jsonl").write_text("\n".join(rows))
    metrics = run_stages(
        tmp_path,
        {
            "scrape": {"sources": [{"name": "talks", "kind": "files", "paths": ["talks.jsonl"]}]},
            "instruct": {"validation_fraction": 0.3},
            "evaluate": {**TINY["evaluate"], "max_bytes": 8000},
            "pretrain": {**TINY["pretrain"], "family": family, "kv_heads": 2, "intermediate": 128, "steps": 40},
        },
    )
    assert pointer_reason(tmp_path / "data/finetune") == f"{kind} answers nothing"
    quantized: dict[str, Any] = metrics["quantize"]
    assert quantized["objective"] == metrics["evaluate"]["objective"] == objective
    assert list(quantized["formats"]) == ["torchao-int8"]
    assert list(quantized["passed_over"]) == ["q8_0"]
    assert quantized["formats"]["torchao-int8"]["bits_per_byte"] == pytest.approx(
        quantized["reference"]["bits_per_byte"], abs=0.05
    )
    measured = metrics["evaluate"][objective]["all"]
    assert 0 < measured["accuracy"] < 1
    assert metrics["evaluate"]["probe"]["order"]["texts"] >= 16
    assert metrics["report"][f"{objective}_accuracy"] == measured["accuracy"]
    page = (tmp_path / "data/report/index.html").read_text()
    assert f"{kind} answers nothing" in page
    assert "[…]" in page
    assert "you chat with" not in page
    with pytest.raises(UserError, match=f"holds no GGUF model.*this is '{family}'"):
        find_model()
