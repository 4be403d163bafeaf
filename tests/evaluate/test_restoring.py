"""Evaluate of encoders and encoder-decoders: measured by what they were trained to do; what decoders are asked is null, with a reason."""

import json
from pathlib import Path

import pytest

from tasks.corrupted_text.corruptions import ask
from tasks.corrupted_text.restorer import load_restorer
from tasks.evaluate import filling
from tasks.evaluate.filling import FILLINGS, GAP
from tasks.model.model_pointer import write_pointer
from tasks.tokens.chat_encoder import ChatEncoder
from tests.evaluate.test_stage import document
from tests.helpers.evaluating import documents, evaluate, held_out
from tests.helpers.restorers import OBJECTIVES, untrained

pytestmark = pytest.mark.usefixtures("one_thread")


def pointed(tmp_path: Path, family: str) -> dict[str, Path]:
    """The folders of pretrain and finetune: a model and a pointer to it."""
    model, finetune = untrained(tmp_path, family), tmp_path / "finetune"
    finetune.mkdir()
    write_pointer(finetune, model, "it does not answer")
    return {"pretrain": model, "finetune": finetune}


@pytest.mark.parametrize("family", ["bert", "electra", "t5", "bart"])  # one of each objective
def test_measured_by_what_it_was_trained_to_do(family: str, tmp_path: Path) -> None:
    models, objective = pointed(tmp_path, family), OBJECTIVES[family]
    rows = [document(n, ("docs", "chat")[n % 2]) for n in range(24)]
    data = {"documents": documents(tmp_path / "documents", rows), "held_out": held_out(tmp_path / "held_out", [])}
    root, metrics = evaluate(tmp_path / "a", models, data, max_bytes=20_000)
    assert (metrics["model"], metrics["objective"]) == ("base", objective)
    assert metrics["documents_scored"] == 24
    found = metrics[objective]
    assert set(found["by_source"]) == {"docs", "chat"}
    for name in ("answers", "bytes"):
        assert found["all"][name] == sum(part[name] for part in found["by_source"].values())
    # Before training it is as good as a guess among all answers: the vocabulary's, or replaced and not.
    assert 0 < found["all"]["loss"] < 7
    assert ("f1" in found["all"]) == (family == "electra")
    assert metrics["probe"]["source"]["texts"] == 24
    assert metrics["probe"]["order"]["texts"] >= 24  # pieces of them
    for name in ("source", "order"):
        assert 0 <= metrics["probe"][name]["accuracy"] <= 1
    assert metrics["validation_bits_per_byte"] is metrics["xz_bits_per_byte"] is metrics["questions"] is None
    assert set(metrics["not_measured"]) == {"validation_bits_per_byte", "questions", "own_set"}
    samples = [json.loads(line) for line in (root / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == (3 if objective in FILLINGS else 0)
    assert all(GAP in row["prompt"] and GAP not in row["reply"] for row in samples)
    again, _ = evaluate(tmp_path / "b", models, data, max_bytes=20_000)
    for name in ("results.json", "samples.jsonl", "questions.jsonl", "own_set.jsonl"):
        assert (again / name).read_bytes() == (root / name).read_bytes()


def test_nothing_held_out_is_null_with_a_reason(tmp_path: Path) -> None:
    rows = documents(tmp_path / "documents", [document(1, "docs", "train")])
    models = pointed(tmp_path, "bert")
    _, metrics = evaluate(tmp_path / "a", models, {"documents": rows, "held_out": held_out(tmp_path / "h", [])})
    assert metrics["masked"] is metrics["probe"] is None
    assert metrics["not_measured"]["masked"] == metrics["not_measured"]["probe"] == "no document is held out"


def test_too_few_documents_for_a_probe(tmp_path: Path) -> None:
    rows = documents(tmp_path / "documents", [document(n, "docs") for n in range(20)])
    models = pointed(tmp_path, "bert")
    _, metrics = evaluate(
        tmp_path / "a", models, {"documents": rows, "held_out": held_out(tmp_path / "h", [])}, max_bytes=20_000
    )
    assert metrics["probe"]["source"] is None
    assert metrics["probe"]["order"]["texts"] >= 20
    assert metrics["not_measured"]["probe of source"] == "it takes two classes of 8 held-out texts each"


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_the_right_words_fill_the_gaps(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says what was hidden gives back the text; one that says nothing, empty gaps."""
    folder = untrained(tmp_path, family)
    restorer, encoder, text = (
        load_restorer(folder, "cpu"),
        ChatEncoder(folder),
        document(3, "docs")["text"].partition(" — ")[0],
    )
    (question,) = ask(restorer, encoder.texts([text]), most=1)
    fill = FILLINGS[restorer.objective]
    monkeypatch.setattr(filling, "_generate", lambda *_: question.decoder[1:].tolist())
    prompt, reply = fill(restorer, encoder, question)
    assert reply.replace("[", "").replace("]", "") == encoder.decode(question.tokens)
    assert prompt.count(GAP) == len(question.spans)
    monkeypatch.setattr(filling, "_generate", lambda *_: [])
    assert fill(restorer, encoder, question)[1] == (prompt.replace(GAP, "[]") if family == "t5" else "")
