"""The report's plan: predicted beside achieved, own numbers beside the planned ones, warnings and devices."""

import re

from tasks.report.page import Results, render
from tests.helpers.planning import planned
from tests.helpers.reporting import CURVES, LARGEST, PLAIN, SPLITS, encoder


def page(plan, **pretrain) -> str:
    metrics = {**PLAIN, "pretrain": {"parameters": 7, **pretrain}}
    return render("Textmill", Results(metrics, CURVES, [], LARGEST, SPLITS, {}, plan), 12)


def row(text: str, name: str) -> list[str]:
    return re.findall(r"<td>(.*?)</td>", re.search(rf"<tr><td>{name}</td>.*?</tr>", text)[0])


def test_predicted_stands_beside_achieved(tmp_path):
    _, plan, _ = planned(tmp_path)
    expected = plan["run"]["expected"]
    text = page(plan, validation_bits_per_byte=expected["loss"], tokens=123)
    low, high = expected["interval"]
    assert row(text, "bits per byte on held-out text")[1:] == [
        f"{expected['loss']:.4g}",
        f"{low:.3f} to {high:.3f}",
        f"{expected['loss']:.4g}",
    ]
    assert row(text, "tokens")[3] == "123"
    assert len(row(text, "h200-sxm")) == 13
    assert "(outside)" in page(plan, validation_bits_per_byte=high + 0.1)
    assert "cost" not in text[text.index('id="plan"') : text.index('id="training"')]


def test_bits_of_hidden_tokens_do_not_stand_beside_those_predicted_of_text(tmp_path):
    _, plan, _ = planned(tmp_path)
    metrics = encoder()
    metrics["pretrain"] = {"parameters": 7, "validation_bits_per_byte": 2.0, "tokens": 123}
    text = render("Textmill", Results(metrics, CURVES, [], LARGEST, SPLITS, {}, plan), 12)
    assert row(text, "tokens")[3] == "123"
    assert "bits per byte on held-out text" not in text


def test_own_numbers_and_warnings_are_shown(tmp_path):
    _, plan, _ = planned(tmp_path, {"hidden": 64, "layers": 1}, tokens=500_000)
    text = page(plan)
    assert "(planned: " in text
    assert "The numbers that params.yaml sets cost" in text
    assert "! The vocabulary is large for the budget" in text


def test_where_nothing_was_planned_there_is_no_section(tmp_path):
    assert 'id="plan"' not in page({})
    assert 'id="plan"' not in page({"start_from": "owner/name"})
