"""Scores on a user's own evaluation set are those of lm-eval and torchmetrics; what is in it is kept out of training."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.evaluate.answer_metrics import exact_match, f1, max_over_answers
from tasks.evaluate.prompts import PromptBuilder
from tasks.model.model_pointer import write_pointer
from tasks.tokens.chat_encoder import ChatEncoder
from tests.helpers.decontaminating import decontaminate, prose
from tests.helpers.evaluating import documents, evaluate, held_out
from tests.helpers.instructing import document, instruct, said
from tests.helpers.tiny import sentence

pytestmark = pytest.mark.usefixtures("one_thread")


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def choices(count: int) -> list[dict[str, Any]]:
    """Questions with two to four choices, of unlike lengths."""
    rows = []
    for number in range(count):
        rng = random.Random(number)
        offered = list(dict.fromkeys(sentence(rng) + " and so on" * rng.randrange(3) for _ in range(2 + number % 3)))
        offered += [f"nothing {number}"] if len(offered) < 2 else []
        rows.append({"question": sentence(rng) + "?", "choices": offered, "answer": rng.randrange(len(offered))})
    return rows


@pytest.fixture
def base(models: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """The models of a run without conversations."""
    pointer = tmp_path / "pointer"
    pointer.mkdir()
    write_pointer(pointer, models["pretrain"], "no conversation to tune on")
    return {"pretrain": models["pretrain"], "finetune": pointer}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    nothing = [{"id": "1", "source": "s", "text": "x", "split": "train"}]
    return {"documents": documents(tmp_path / "documents", nothing), "held_out": held_out(tmp_path / "held_out", [])}


TEXT = "the cat likes the sea, and my dog remembers the café in summer rain. 日本\n" * 9


def test_each_kind_is_scored_for_a_tuned_and_for_a_base_model(
    tmp_path: Path, models: dict[str, Path], base: dict[str, Path], data: dict[str, Path]
) -> None:
    for name, folders in (("tuned", models), ("base", base)):
        own = tmp_path / name / "evaluation"
        mixed = [{"question": "What is near?", "answers": ["the sea", "bread"]}, *choices(6), {"text": TEXT}]
        write(own, "mixed.jsonl", mixed)
        (own / "text.txt").write_text(TEXT)
        root, metrics = evaluate(tmp_path / name, folders, data)
        found = metrics["own_set"]
        assert set(found) == {"mixed.jsonl", "text.txt"}
        assert set(found["mixed.jsonl"]) == {"questions", "choices", "texts"}
        assert found["mixed.jsonl"]["questions"].keys() == {"asked", "em", "em_stderr", "f1", "f1_stderr"}
        assert found["mixed.jsonl"]["choices"]["asked"] == 6
        assert found["text.txt"]["texts"] == found["mixed.jsonl"]["texts"]
        assert found["text.txt"]["texts"].keys() == {"xz", "pretrain", *(["finetune"] if name == "tuned" else [])}
        assert 0 < found["text.txt"]["texts"]["pretrain"]["bits_per_byte"] < 8
        rows = [json.loads(line) for line in (root / "own_set.jsonl").read_text().splitlines()]
        assert [(row["file"], row["kind"], row["number"]) for row in rows] == [
            ("evaluation/mixed.jsonl", "questions", 1),
            *(("evaluation/mixed.jsonl", "choices", number) for number in range(2, 8)),
            ("evaluation/mixed.jsonl", "texts", 8),
            ("evaluation/text.txt", "texts", 1),
        ]
        only, _ = evaluate(
            tmp_path / name / "again", folders, {**data, "evaluation": own}, files=("evaluation/text.txt",)
        )
        assert json.loads((only / "results.json").read_text())["own_set"].keys() == {"text.txt"}


def test_a_text_scores_as_the_same_held_out_document(
    tmp_path: Path, base: dict[str, Path], data: dict[str, Path]
) -> None:
    write(tmp_path / "a/evaluation", "a.jsonl", [{"text": TEXT}])
    held = documents(tmp_path / "held", [{"id": "1", "source": "s", "text": TEXT, "split": "validation"}])
    _, metrics = evaluate(tmp_path / "a", base, {**data, "documents": held})
    assert metrics["own_set"]["a.jsonl"]["texts"]["pretrain"] == metrics["pretrain"]["all"]
    assert metrics["own_set"]["a.jsonl"]["texts"]["xz"] == metrics["xz"]["all"]


def test_the_right_answer_of_several_counts_as_torchmetrics_has_it() -> None:
    from torchmetrics.functional.text import squad

    for answer, answers in (
        ("the old pier", ["a hill", "old pier"]),
        ("a big blue whale", ["whale", "big whale"]),
        ("", ["x"]),
    ):
        theirs = squad(
            [{"prediction_text": answer, "id": "1"}],
            [{"answers": {"answer_start": [0] * len(answers), "text": answers}, "id": "1"}],
        )
        assert 100 * max_over_answers(exact_match, answer, answers) == pytest.approx(float(theirs["exact_match"]))
        assert 100 * max_over_answers(f1, answer, answers) == pytest.approx(float(theirs["f1"]), abs=1e-3)


def test_a_tuned_model_is_offered_choices_as_the_assistants_words(models: dict[str, Path]) -> None:
    encoder = ChatEncoder(models["finetune"])
    before, tokens = PromptBuilder(encoder, tuned=True).choice("What is near?", "the sea")
    said = [{"role": "user", "content": "What is near?"}, {"role": "assistant", "content": "the sea"}]
    assert [*before, *tokens, encoder.turn_end] == encoder.join(encoder.turns([said])[0]).ids  # type: ignore[list-item]


def test_training_text_that_holds_an_item_goes(tmp_path: Path) -> None:
    """Every kind of item, from instruct's items and from decontaminate's documents alike."""
    question, answer, choice, text = (prose(9000 + n, 12) for n in range(4))
    write(
        tmp_path / "evaluation",
        "own.jsonl",
        [
            {"question": question, "answer": "yes"},
            {"question": "Which of these?", "choices": ["no", choice], "answer": 1},
            {"question": "Who says so?", "answers": [answer]},
        ],
    )
    (tmp_path / "evaluation/book.txt").write_text(f"{text} {prose(9100, 60)}")
    leaks = [f"{prose(n)} {item} {prose(100 + n)}" for n, item in enumerate((question, choice, answer))]
    leaks.append((tmp_path / "evaluation/book.txt").read_text())
    kept, removed, metrics = decontaminate(tmp_path, [prose(500), *leaks], [])
    assert kept == {"t0"}
    assert [removed[f"t{n}"]["matched"] for n in range(1, 5)] == [
        *(f"evaluation/own.jsonl#{n}" for n in (1, 2, 3)),
        "evaluation/book.txt#1",
    ]
    assert metrics["references"]["evaluation/own.jsonl"] == {"items": 3, "items_found": 3, "documents_removed": 3}


def test_conversations_that_hold_an_item_are_not_tuned_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "execution.yaml").write_text("workers: 1\n")
    talks = [said(number) for number in range(6)]
    write(tmp_path / "evaluation", "own.jsonl", [{"messages": talks[2]}])
    tables, _ = instruct(tmp_path, [document(messages) for messages in talks], validation_fraction=0.0)
    assert [(row["reason"], row["matched"]) for row in tables["removed"]] == [("in_held_out", "evaluation/own.jsonl#1")]


def lm_eval_tasks(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Local tasks for lm-eval: multiple choice in the form in which a base model is asked, and a text."""
    shared = {"dataset_path": "json", "test_split": "test"}
    tasks = {
        "own_choices": {
            "output_type": "multiple_choice",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{answer}}",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        },
        "own_text": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "bits_per_byte"}],
        },
    }
    for name, found in (("own_choices", rows), ("own_text", [{"text": TEXT}])):
        path = write(folder, f"{name}.jsonl", found)
        task = {"task": name, **shared, "dataset_kwargs": {"data_files": {"test": str(path)}}, **tasks[name]}
        (folder / f"{name}.yaml").write_text(json.dumps(task))  # JSON is YAML


@pytest.mark.slow
def test_the_model_folder_works_with_lm_eval_as_it_is_and_gives_the_same_scores(
    tmp_path: Path, models: dict[str, Path], base: dict[str, Path], data: dict[str, Path]
) -> None:
    """`lm_eval --model hf --model_args pretrained=...`, offline, scores a text as here. Choices too, where lm-eval is told to
    begin a prompt with the token that begins documents.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    rows = choices(40)
    lm_eval_tasks(tmp_path / "tasks", rows)
    arguments = ["--model", "hf", "--model_args", f"pretrained={models['pretrain']},dtype=float32"]
    arguments += ["--tasks", "own_choices,own_text", "--include_path", str(tmp_path / "tasks"), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", *arguments, "--output_path", str(tmp_path / "results")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (tmp_path / "results").rglob("results_*.json")
    theirs = json.loads(path.read_text())["results"]
    assert 0 <= theirs["own_choices"]["acc_norm,none"] <= 1
    write(tmp_path / "a/evaluation", "choices.jsonl", rows)
    (tmp_path / "a/evaluation/text.txt").write_text(TEXT)
    _, metrics = evaluate(tmp_path / "a", base, data)
    bits = metrics["own_set"]["text.txt"]["texts"]["pretrain"]["bits_per_byte"]
    assert bits == pytest.approx(theirs["own_text"]["bits_per_byte,none"], abs=1e-6)
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    wrapped = HFLM(pretrained=str(models["pretrain"]), device="cpu", dtype="float32", add_bos_token=True, batch_size=4)
    led = simple_evaluate(wrapped, tasks=["own_choices"], task_manager=manager, bootstrap_iters=2)["results"][
        "own_choices"
    ]
    ours = metrics["own_set"]["choices.jsonl"]["choices"]
    assert ours["accuracy"] == pytest.approx(led["acc,none"], abs=1e-6)
    assert ours["accuracy_normalised"] == pytest.approx(led["acc_norm,none"], abs=1e-6)
    assert ours["accuracy_normalised_stderr"] == pytest.approx(led["acc_norm_stderr,none"], abs=1e-6)
    assert 0.2 < ours["accuracy_normalised"] < 0.9


def test_the_report_has_the_scores_of_each_file() -> None:
    from tests.helpers.reporting import curated, page

    metrics = curated()
    metrics["evaluate"]["own_set"] = {
        "<mine>.jsonl": {
            "questions": {"asked": 12, "em": 0.25, "em_stderr": 0.125, "f1": 0.375, "f1_stderr": None},
            "choices": {"asked": 8, "accuracy": 0.5, "accuracy_normalised": 0.625, "chance": 0.25},
        },
        "book.txt": {"texts": {"xz": 2.5, "finetune": {"documents": 1, "bits_per_byte": 1.875}}},
    }
    html = page(metrics).partition("Your own evaluation set")[2].partition("</table>")[0]
    for part in ("&lt;mine&gt;.jsonl", ">12<", "em 0.25 ± 0.125, f1 0.375", "accuracy normalised 0.625, chance 0.25"):
        assert part in html
    assert "bits per byte 1.875, of xz -9e 2.5" in html
    assert "Your own evaluation set" not in page(curated())
